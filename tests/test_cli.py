from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from codelab.cli import cli

if TYPE_CHECKING:
    from collections.abc import Iterator


def _commands(group: click.Group, *path: str) -> Iterator[tuple[str, ...]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from _commands(command, *path, name)


@pytest.mark.parametrize("path", [(), *_commands(cli)], ids=" ".join)
def test_help_teaches(path: tuple[str, ...]) -> None:
    """Every command explains itself, its options too, and no mark-up is left in what people read."""
    shown = CliRunner().invoke(cli, [*path, "--help"])

    assert shown.exit_code == 0, shown.output
    assert "\\b" not in shown.output
    assert len(shown.output.splitlines()) > 5


@pytest.mark.parametrize("module", ["codelab.installation", "codelab.cli.auth.user", "codelab.cli.db.status"])
def test_what_describes_the_data_starts_without_the_web(module: str) -> None:
    """Commands about data and people import no web framework, which takes longer than all else that they do."""
    slow = {"advanced_alchemy", "litestar", "rich", "uvicorn"}
    program = f"import sys, {module}; print({slow} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"
