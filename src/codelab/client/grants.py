"""Grants at the terminal: what a person asks for, what it would allow, and those that hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codelab.client.console import escape_line

if TYPE_CHECKING:
    from codelab.client.api import Api
    from codelab.client.console import Console

__all__ = ("SCOPES", "describe_grant", "manage_grants", "read_grant")

#: What may follow the word grant at a question, and what it means.
SCOPES = "once, N times, turn, session, agent or all_sessions"
_PLAIN = frozenset({"once", "turn", "session", "agent", "all_sessions"})
#: Calls of a preview that are shown.
_SHOWN = 5
Line = tuple[str, str]


def read_grant(text: str) -> dict[str, Any] | None:
    """Read for what a person grants; None where it is nothing that can be granted."""
    words = text.split()
    if len(words) == 1 and words[0] in _PLAIN:
        return {"scope": words[0]}
    if len(words) == 2 and words[1] in {"time", "times"} and words[0].isascii() and words[0].isdigit():
        times = int(words[0][:5])
        return {"scope": "times", "times": times} if 1 <= times <= 1000 else None
    return None


def describe_grant(preview: dict[str, Any]) -> list[Line]:
    """Say what a grant would allow: the exact rule, where and how long, and the calls that it would have allowed."""
    lines = [(f"This would be granted: {_rule(preview)}", "bold yellow"), (f"  {_where(preview)}", "yellow")]
    calls = preview.get("calls") or []
    lines.append((f"  Of your last {preview.get('looked_at') or 0} calls it would have allowed {len(calls)}.", "dim"))
    for call in calls[:_SHOWN]:
        arguments = call.get("arguments") or {}
        shown = str(arguments.get("command") or arguments.get("path") or "")
        lines.append((f"    {escape_line(str(call.get('tool_name')))} {escape_line(shown)}", "dim"))
    return lines


async def manage_grants(api: Api, console: Console, text: str) -> None:
    """List the grants that hold, or take one back: ``revoke ID``."""
    word, _, grant_id = text.partition(" ")
    if word == "revoke" and grant_id:
        await api.revoke_grant(grant_id.strip())
        console.note("It is taken back: such calls are asked for again.")
        return
    if word:
        console.note("`/grants` lists your grants, `/grants revoke ID` takes one back.", "yellow")
        return
    found = await api.grants()
    for grant in found:
        console.note(f"{escape_line(str(grant.get('grant_id')))}  {_rule(grant)}; {_where(grant)}", "")
    console.note("`/grants revoke ID` takes one back." if found else "You have granted nothing.")


def _rule(grant: dict[str, Any]) -> str:
    rule = grant.get("rule") or {}
    command = " ".join(map(str, rule.get("command") or ()))
    if command:
        return escape_line(f"{rule.get('tool')} `{command}` in {rule.get('path')}")
    if rule.get("arguments"):
        return escape_line(f"{rule.get('tool')} with exactly these arguments")
    return escape_line(f"{rule.get('tool')} {rule.get('path')}, with any content")


def _where(grant: dict[str, Any]) -> str:
    agent = f"for the agent {grant['agent']}" if grant.get("agent") else "for every agent"
    place = (
        "in this turn" if grant.get("turn_id") else "in one session" if grant.get("session_id") else "in all sessions"
    )
    left = grant.get("times_left", grant.get("times"))
    times = "" if left is None else f", {left} times"
    until = f", until {grant['until']}" if grant.get("until") else ""
    return escape_line(f"{agent} {place}{times}{until}")
