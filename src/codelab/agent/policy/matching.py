"""Does a rule match a call? An allow takes plain input exactly; a deny or an ask takes every reading of it."""

from __future__ import annotations

import hashlib
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

from codelab.agent.policy.calls import Call
from codelab.agent.policy.commands import begins_with
from codelab.agent.policy.paths import allows_path, forbids_path, may_reach, why_not_plain
from codelab.agent.policy.rules import MCP
from codelab.agent.tools import IDEMPOTENT
from codelab.text import canonical_json

if TYPE_CHECKING:
    from codelab.agent.policy.rules import Rule

__all__ = ("Match", "concerns", "digest", "match", "matches")


class Match(NamedTuple):
    """``matched``, or ``possible`` where nobody can tell; ``note`` says why it is not as one may think."""

    matched: bool
    possible: bool = False
    note: str | None = None


YES = Match(matched=True)
NO = Match(matched=False)


def concerns(rule: Rule, call: Call) -> bool:
    """Tell whether a rule is about this agent and this tool at all."""
    return fnmatchcase(call.agent, rule.agent) and fnmatchcase(call.tool, rule.tool) and not _by_chance(rule, call)


def _by_chance(rule: Rule, call: Call) -> bool:
    """Tell whether an allow of ``*_file`` or the like would take a tool whose name a stranger chose to fit it."""
    everything = not rule.tool.strip("*")
    return rule.effect == "allow" and call.tool.startswith(MCP) and not (everything or rule.tool.startswith(MCP))


def matches(rule: Rule, agent: str, tool: str, arguments: dict[str, Any]) -> bool:
    """Tell whether a rule matches a call for certain."""
    call = Call(agent, tool, arguments)
    return concerns(rule, call) and match(rule, call).matched


def digest(arguments: dict[str, Any]) -> str:
    """Name arguments, all of them: SHA-256, lower-case hex, of their canonical JSON."""
    return hashlib.sha256(canonical_json(arguments).encode("utf-8", "surrogatepass")).hexdigest()


def match(rule: Rule, call: Call) -> Match:
    """Match a rule that concerns a call with its arguments."""
    if rule.arguments is not None:
        return YES if digest(call.arguments) == rule.arguments else NO
    if rule.path is None and rule.command is None:
        return YES
    if rule.effect == "allow":
        return _allows(rule, call)
    found = [
        part
        for part in (
            None if rule.command is None else _forbids_command(rule.command, call),
            None if rule.path is None else _forbids_path(rule.path, call),
        )
        if part is not None
    ]
    if all(part.matched for part in found):
        return YES
    if all(part.matched or part.possible for part in found):
        return _maybe("; ".join(part.note for part in found if part.note))
    return NO


def _allows(rule: Rule, call: Call) -> Match:
    if rule.command is not None:
        if call.argv is None:
            problem = "the command is more than plain words, and only those are compared with what allows"
            return Match(matched=False, note=problem) if call.is_command else NO
        words = call.argv if rule.exact else call.argv[: len(rule.command)]
        if words != rule.command or set(call.arguments) - {"command", "cwd", "timeout", "shell"}:
            return NO
    elif call.is_command:
        return Match(matched=False, note="a rule about paths allows no command")
    if call.paths is None:
        return Match(matched=False, note="its paths cannot be told from the arguments")
    for path in call.paths:
        if (fault := why_not_plain(path)) is not None:
            return Match(matched=False, note=f"the path {fault}, and only plain ones are compared with what allows")
    wanted = "." if rule.path is None else rule.path
    if call.walks and not rule.exact and wanted.rpartition("/")[2] != "**":
        return Match(matched=False, note="the call looks at everything below its path, and the rule does not")
    itself = call.tool in IDEMPOTENT or call.is_command
    covered = all(allows_path(wanted, path, itself=itself, exact=rule.exact) for path in call.paths)
    return Match(matched=covered, note=None if covered or rule.path else "it runs in another folder than the project's")


def _forbids_command(prefix: tuple[str, ...], call: Call) -> Match:
    if not call.is_command:
        return NO
    if call.script is None:
        return Match(matched=True, note="the command is too long to be read")
    if any(begins_with(command, prefix) for command in call.script.commands):
        return YES
    return NO if call.script.certain else _maybe("what the command runs is known only when it runs")


def _forbids_path(pattern: str, call: Call) -> Match:
    if call.is_command and call.script is None:
        return Match(matched=True, note="the command is too long to be read")
    if call.readings is None or call.walked is None:
        sure = call.known and not call.is_command
        return Match(matched=sure, possible=True, note="it names too much, or too long a path, to be read")
    if any(forbids_path(pattern, reading) for reading in call.readings):
        return YES
    # A pattern that may begin anywhere would find something below every word.
    exact_words = call.is_command or not call.known
    if any(
        may_reach(pattern, reading)
        for reading in call.walked
        if not (exact_words and pattern.startswith("**") and len(reading.parts) == 1 and not reading.anywhere)
    ):
        return _maybe("the call may come to what the rule is about")
    if call.script is not None and not call.script.words_certain:
        return _maybe("what the command names is known only when it runs")
    return NO


def _maybe(note: str) -> Match:
    return Match(matched=False, possible=True, note=note)
