"""A copy or an import that is killed or interrupted at any moment: whole, or refused with what to do."""

from __future__ import annotations

import random
import shlex
import signal
import time
from typing import TYPE_CHECKING

import pytest

from codelab.db import parse_url
from codelab.installation import MODULES
from tests.storage.commands import document
from tests.storage.hostile import contents
from tests.storage.processes import mark_at, running, wait_for_mark
from tests.support.forking import fork_codelab
from tests.support.process import DEADLINE, clean_environ

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.databases import DatabaseUrls

AGENT = MODULES["agent"].schema.metadata


@pytest.fixture
def source(hostile: DatabaseUrls, make: Callable[[str], str], dialect: str) -> str:
    """A filled database; targets are of the other dialect."""
    if dialect == "postgresql":
        return hostile.agent
    source = make("postgresql")
    document("copy", "--from", hostile.agent, "--to", source)
    return source


@pytest.fixture
def archive(hostile: DatabaseUrls, tmp_path: Path) -> str:
    """A file with both modules."""
    file = str(tmp_path / "all.tar.zst")
    document("export", file, databases=hostile)
    return file


def kill_somewhere(
    arguments: tuple[str, ...], target: str, marked_for: float, folder: Path, **environ: str
) -> tuple[str, str] | None:
    """Kill a command at a moment after it marked its target, and return the mark that is left."""
    with running(*arguments, folder=folder, **environ) as process:
        wait_for_mark(process, "agent", target)
        time.sleep(random.uniform(0, marked_for))
        process.kill()
        process.wait(DEADLINE)
    return mark_at("agent", target)


def time_of(arguments: tuple[str, ...], target: str, folder: Path, **environ: str) -> float:
    """Return how long a command keeps its target marked."""
    with running(*arguments, folder=folder, **environ) as process:
        wait_for_mark(process, "agent", target)
        began = time.monotonic()
        assert process.wait(DEADLINE) == 0
        return time.monotonic() - began


@pytest.mark.timeout(1200)
def test_a_copy_that_is_killed(
    source: str, dialect: str, make: Callable[[str], str], tmp_path: Path, *, soak: bool
) -> None:
    """The source is untouched; the target is whole, or no server starts on it and the line says what to run."""
    before = contents(source, AGENT)
    whole = make(dialect)
    command = ("db", "copy", "--from", source, "--to")
    marked_for = time_of((*command, whole), whole, tmp_path)
    assert contents(whole, AGENT) == before

    for _ in range(20 if soak else 2):
        target = make(dialect)
        left = kill_somewhere((*command, target), target, marked_for, tmp_path)
        assert contents(source, AGENT) == before
        if left is not None:
            environ = clean_environ(tmp_path, AGENT_RUNTIME__DB_URL=target, AUTH_SERVICE__MASTER_KEY="correct horse")
            answer = fork_codelab("serve", "--port", "0", folder=tmp_path, environ=environ)
            assert answer.returncode == 2
            assert "did not come to its end, so the data is not whole. Run it again: codelab db copy" in answer.stderr
            _, remedy = left
            again = shlex.split(remedy.removeprefix("Run it again: codelab "))
            urls = {parse_url(url, "").masked: url for url in (source, target)}
            answer = fork_codelab(*(urls.get(word, word) for word in again), folder=tmp_path, environ=environ)
            assert answer.returncode == 0, answer.stderr
        assert mark_at("agent", target) is None
        assert contents(target, AGENT) == before


@pytest.mark.timeout(1200)
def test_an_import_that_is_killed(
    hostile: DatabaseUrls, archive: str, dialect: str, make: Callable[[str], str], tmp_path: Path, *, soak: bool
) -> None:
    """What was in the target before ``--replace`` is there until the new rows are whole."""
    wanted = contents(hostile.agent, AGENT)
    target = make(dialect)
    command = ("db", "import", archive, "--module", "agent", "--replace")
    environ = {"AGENT_RUNTIME__DB_URL": target}
    marked_for = time_of(command, target, tmp_path, **environ)

    for _ in range(20 if soak else 2):
        left = kill_somewhere(command, target, marked_for, tmp_path, **environ)
        # Before and after hold the same rows here: whatever was killed, they are all there.
        assert contents(target, AGENT) == wanted
        if left is not None:
            again = shlex.split(left[1].removeprefix("Run it again: codelab "))
            answer = fork_codelab(*again, folder=tmp_path, environ=clean_environ(tmp_path, **environ))
            assert answer.returncode == 0, answer.stderr
        assert mark_at("agent", target) is None
        assert contents(target, AGENT) == wanted


def test_ctrl_c(source: str, dialect: str, make: Callable[[str], str], tmp_path: Path) -> None:
    """Ctrl-C takes everything back, says so, and leaves no mark."""
    target = make(dialect)
    with running("db", "copy", "--from", source, "--to", target, folder=tmp_path) as process:
        assert wait_for_mark(process, "agent", target)
        time.sleep(random.uniform(0, 0.05))
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=DEADLINE)

    assert (process.returncode, output) == (130, ""), errors
    assert errors.splitlines() == [f"agent: {parse_url(target, '').masked} is as it was"]
    assert mark_at("agent", target) is None
    document("copy", "--from", source, "--to", target)
    assert contents(target, AGENT) == contents(source, AGENT)
