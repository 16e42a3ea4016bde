"""What is said in a conversation: each play brings its session through other states, and ends with its turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.e2e.conversation import END

if TYPE_CHECKING:
    from tests.e2e.conversation import Play, Talk

__all__ = ("PLAYS", "change_mind", "decide_first", "line_up", "steer", "use_tools")


async def line_up(talk: Talk) -> None:
    """Send three messages at once: one is answered while two wait in the queue."""
    accepted = [await talk.say(f"count to {talk.chance.randrange(2, 60)}") for _ in range(3)]
    await talk.until(*END, turn=accepted[-1]["turn_id"])


async def use_tools(talk: Talk) -> None:
    """Ask for two files: both calls are claimed and answered, with pauses between."""
    turn = (await talk.say("read a.txt and b.txt"))["turn_id"]
    waiting = await talk.until("turn.waiting", turn=turn)
    for call_id in waiting.data["call_ids"]:
        await talk.claim(call_id)
        await talk.think()
        await talk.answer(call_id, {"content": f"the content for {call_id}"})
        await talk.think()
    await talk.until(*END, turn=turn)


async def decide_first(talk: Talk) -> None:
    """Approve, change or reject what the agent wants to write."""
    accepted = await talk.say("create hello.py that prints hi")
    turn = accepted["turn_id"]
    asked = await talk.until("approval.requested", turn=turn)
    await talk.think()
    decision = talk.chance.choice(("approve", "edit", "reject"))
    sent: dict[str, Any] = {"decision": decision}
    if decision == "edit":
        sent["modified_arguments"] = {"path": "hello.py", "content": "changed"}
    await talk.decide(asked.data["approval_id"], **sent)
    if decision != "reject":
        requested = await talk.until("tool.requested", turn=turn)
        await talk.think()
        await talk.answer(requested.data["call_id"], {"path": "hello.py", "bytes_written": 12})
    await talk.until(*END, turn=turn)


async def steer(talk: Talk) -> None:
    """Say more while the answer streams; it joins that turn, or is answered after it."""
    turn = (await talk.say("count to 40"))["turn_id"]
    await talk.until("message.started", turn=turn)
    await talk.think()
    joined = await talk.say("count to 7", "steer")
    for each in (turn, joined["turn_id"]):
        await talk.until(*END, turn=each)


async def change_mind(talk: Talk) -> None:
    """Cancel an answer while it streams, then a question that nobody has decided."""
    for content, sign in (("count to 900", "message.started"), ("run ls", "turn.waiting")):
        turn = (await talk.say(content))["turn_id"]
        await talk.until(sign, turn=turn)
        await talk.think()
        await talk.cancel()
        await talk.until(*END, turn=turn)


PLAYS: tuple[Play, ...] = (line_up, use_tools, decide_first, steer, change_mind)
