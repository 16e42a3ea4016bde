"""``codelab policy explain``: what would become of a tool call, and which rules say so."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from codelab.cli.db.common import Report, env_file_option, json_option, load_settings
from codelab.errors import CodelabError, StartError
from codelab.text import decode_lenient

if TYPE_CHECKING:
    from codelab.agent.schemas import Explanation
    from codelab.agent.schemas.policy import ExplainedRule

__all__ = ("explain",)

_STYLES = {"allow": "green", "ask": "yellow", "deny": "red"}


@click.command()
@click.option("--agent", required=True, metavar="NAME", help="The agent that makes the call, such as coder.")
@click.option("--tool", required=True, metavar="NAME", help="The tool that it calls, such as write_file.")
@click.option(
    "--arguments",
    required=True,
    metavar="JSON",
    help="The arguments of the call, a JSON object; - reads standard input.",
)
@click.option(
    "--file",
    "policy_file",
    type=click.Path(path_type=Path),
    help="Try this file of rules instead of the configured one.",
)
@click.option("--expect", type=click.Choice(("allow", "ask", "deny")), help="Exit with 1 when the effect is another.")
@json_option
@env_file_option
def explain(
    agent: str,
    tool: str,
    arguments: str,
    policy_file: Path | None,
    expect: str | None,
    env_file: Path | None,
    *,
    as_json: bool,
) -> None:
    r"""Say what would become of a tool call: allow, ask or deny, and which rules say so.

    Nothing is run, no server is asked and no database is opened. The rules are shown in the order in which they are
    read: > decided, + matched, - did not match. The last one that matches decides; what the operator denies stays
    denied. docs/policy.md describes the file of rules.

    Exit codes: 0 explained, 1 the effect is not the one of --expect, 2 an argument, a setting or the file of rules
    cannot be used.

    \b
    Examples:
      codelab policy explain --agent coder --tool read_file --arguments '{"path": "src/app.py"}'
      codelab policy explain --agent coder --tool execute_command --arguments '{"command": "git push"}' --expect ask
      codelab policy explain --file policy.yaml --agent ask --tool read_file --arguments '{"path": "secrets/key"}'
    """
    try:
        found = _judge(agent, tool, _read(arguments), policy_file, env_file)
    except (StartError, CodelabError) as error:
        click.echo(f"codelab: {error}", err=True)
        sys.exit(2)
    report = Report(as_json)
    report.line(f"{found.effect}: {found.reason}", f"bold {_STYLES[found.effect]}")
    for step in found.trace:
        mark = ">" if step.decided else "+" if step.matched else "-"
        style = _STYLES[step.effect] if step.decided else "" if step.matched else "dim"
        report.line(f"  {mark} {step.layer:<8}  {step.effect:<5}  {_describe(step.rule)}", style)
        if step.note:
            report.line(f"      {step.note}", "dim")
    report.finish(found)
    if expect is not None and found.effect != expect:
        click.echo(f"codelab: expected {expect}, but the effect is {found.effect}.", err=True)
        sys.exit(1)


def _judge(
    agent: str, tool: str, arguments: dict[str, Any], policy_file: Path | None, env_file: Path | None
) -> Explanation:
    from codelab.agent.agents import load_agents
    from codelab.agent.policies import explain_call, read_policy

    settings = load_settings(env_file).agent
    agents = load_agents(settings.agents_dir, multi=settings.multi_agent_mode)
    if policy_file is not None:
        policy = read_policy(policy_file, agents, "--file")
    else:
        policy = read_policy(settings.policy_file, agents)
    return explain_call(policy, agents, agent, tool, arguments)


def _read(arguments: str) -> dict[str, Any]:
    text = sys.stdin.read() if arguments == "-" else arguments
    try:
        value = decode_lenient(text.encode("utf-8", "replace"))  # as the gate reads what a model wrote
    except (ValueError, RecursionError) as error:
        raise StartError(f"--arguments: is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise StartError("--arguments: a JSON object is expected.")
    return value


def _describe(rule: ExplainedRule) -> str:
    parts = [f"tool {rule.tool}"]
    if rule.agent != "*":
        parts.append(f"agent {rule.agent}")
    if rule.path is not None:
        parts.append(f"path {rule.path}")
    if rule.command is not None:
        parts.append(f"command {' '.join(rule.command)}")
    if rule.exact:
        parts.append("exact")
    return ", ".join(parts) + (f"  ({rule.source})" if rule.source else "")
