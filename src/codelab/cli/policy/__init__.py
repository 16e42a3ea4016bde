"""``codelab policy``: what the rules about agents say, without a server."""

from __future__ import annotations

import click

from codelab.cli.lazy import LazyGroup

__all__ = ("COMMANDS", "policy")

#: Command to the module and the name in it, and the line that ``--help`` shows.
COMMANDS = {
    "explain": (
        "codelab.cli.policy.explain",
        "explain",
        "Say what would become of a tool call, and which rules say so.",
    ),
}


@click.group(cls=LazyGroup, commands_at=COMMANDS)
def policy() -> None:
    """Look at the policy: the rules about what agents may do.

    The operator's rules are those of AGENT_RUNTIME__POLICY_FILE, as for `codelab serve`.
    """
