"""The chat at a terminal: read a message or a command, follow the turn, again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from codelab.client.chat import Chat, interruptible
from codelab.client.errors import ClientError
from codelab.client.grants import manage_grants

if TYPE_CHECKING:
    from codelab.client.console import Console
    from codelab.client.terminal import Terminal
    from codelab.client.turns import Outcome
    from codelab.client.wire import Session

__all__ = ("talk",)

HELP = """\
/agent NAME   hand this session to another agent
/agents       list the agents and their tools
/model NAME   have another model answer from now on
/models       list the models
/grants       list what you have granted; `/grants revoke ID` takes one back
/session      show this session
/help         show this help
/exit         leave; `codelab chat --continue` goes on here
Ctrl-C stops a running turn, a second Ctrl-C leaves. Ctrl-C or Ctrl-D at the prompt leaves.
At a question: y allows, n refuses (`n use pathlib` tells the agent why), edit changes the arguments first,
grant allows and says that such calls need not be asked for (`g session`); it is shown before it holds."""


async def talk(chat: Chat, terminal: Terminal, console: Console) -> int:
    """Talk until the person leaves; returns the exit code."""
    console.note("Ctrl-C stops a running turn; /help lists the commands; Ctrl-D or /exit leaves.")
    try:
        _report(await interruptible(chat, chat.catch_up()), console)
        while True:
            text = await terminal.message(chat.agent)
            if text is None or text.strip() == "/exit":
                console.note("Bye. `codelab chat --continue` goes on here.")
                return 0
            if not text.strip():
                continue
            try:
                if text.startswith("/"):
                    await _command(chat, console, text)
                else:
                    _report(await interruptible(chat, chat.say(text)), console)
                    await chat.look_up()
            except ClientError as error:
                console.error(str(error))
    except asyncio.CancelledError:
        console.note("Left while a turn was running. `codelab chat --continue` shows how it went on.")
        return 1


def _report(outcome: Outcome | None, console: Console) -> None:
    if outcome is None:
        return
    if outcome.spent:
        console.note(outcome.spent)
    if outcome.status == "completed":
        return
    style = "red" if outcome.status == "failed" else "yellow"
    console.note(outcome.sentence, style)


async def _command(chat: Chat, console: Console, text: str) -> None:
    name, _, rest = text.strip().partition(" ")
    rest = rest.strip()
    match name:
        case "/help":
            for line in HELP.splitlines():
                console.note(line, "")
        case "/agents":
            for agent in await chat.api.agents():
                called = agent.get("type") or agent.get("name")
                console.note(f"{called}: {agent.get('description') or ''}", "bold" if called == chat.agent else "")
        case "/agent" if rest:
            conversation = await chat.open()
            await chat.api.switch(conversation.session_id, rest)
            chat.agent = rest
            console.note(f"The session is with {rest} now.")
        case "/agent":
            console.note(f"The session is with {chat.agent or 'no agent yet'}; `/agent NAME` changes that.", "")
        case "/model" | "/models":
            await _choose_model(chat, console, rest if name == "/model" else "")
        case "/grants":
            await manage_grants(chat.api, console, rest)
        case "/session" if chat.conversation is None:
            console.note("There is no session yet; your first message makes one.", "")
        case "/session":
            _show(await chat.look_up(), console)
        case _:
            console.note(f"{name} is not a command; /help lists them. A message cannot begin with `/`.", "yellow")


async def _choose_model(chat: Chat, console: Console, model: str) -> None:
    if model:
        conversation = await chat.open()
        await chat.api.choose_model(conversation.session_id, model)
        console.note(f"{model} answers from now on.")
        return
    for each in await chat.api.models():
        console.note(str(each.get("id")), "")
    console.note("`/model NAME` chooses which of them answers.", "")


def _show(session: Session, console: Console) -> None:
    console.note(f"session   {session.session_id}", "")
    console.note(f"title     {session.title or '-'}", "")
    console.note(f"agent     {session.current_agent or '-'}", "")
    console.note(f"model     {session.model or '-'}", "")
    console.note(f"messages  {session.message_count}", "")
