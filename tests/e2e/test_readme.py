"""What README.md shows is what happens."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.support.process import clean_environ, run_codelab

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"^(````?)console\n\$ python3 dev\.py (chat .*?)\n(.*?)^\1$", README, re.MULTILINE | re.DOTALL)


def test_the_readme_shows_something() -> None:
    """The pattern finds the three chats."""
    assert len(SHOWN) == 3


@pytest.mark.parametrize(("command", "output"), [shown[1:] for shown in SHOWN])
def test_a_shown_chat_prints_what_is_shown(command: str, output: str, home: Path, tmp_path: Path) -> None:
    """The output in README.md is the real one, letter by letter."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "CHANGES.md").write_text("Quokkas smile now.\n", encoding="utf-8")
    done = run_codelab(*shlex.split(command), folder=folder, environ=clean_environ(home))

    assert done.returncode == 0, done.stderr
    assert done.stdout == output
