"""``codelab db backup`` and ``codelab db restore``, as an operator runs them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from codelab.agent.storage import STORAGE as AGENT
from codelab.db import parse_url
from codelab.storage.backup_files import complete_backups
from codelab.storage.check import check
from tests.storage.rows import STORAGES, both, digests, execute
from tests.support.forking import forked_server
from tests.support.server import Person, make_settings, serving

if TYPE_CHECKING:
    from tests.storage.conftest import Operator
    from tests.support.databases import DatabaseUrls

logger = logging.getLogger(__name__)


def backups(operator: Operator, *arguments: str) -> dict[str, Path]:
    """Back up, and return the file of each module."""
    told = operator.told("backup", "kept", *arguments)
    return {one["module"]: operator.folder / "kept" / one["file"] for one in told["backups"]}


@pytest.mark.parametrize("form", [(), ("--portable",)], ids=["own", "portable"])
async def test_what_was_backed_up_comes_back(filled: DatabaseUrls, operator: Operator, form: tuple[str, ...]) -> None:
    """Every row of every table is as it was, whatever was done since; the files are for their owner alone."""
    before = await both(filled)
    files = backups(operator, *form)
    for file in files.values():
        for path in (file, Path(f"{file}.json")):
            assert path.stat().st_mode & 0o777 == 0o600
    assert len(list((operator.folder / "kept").iterdir())) == 4
    await execute(filled.agent, "DELETE FROM sessions", "DROP TABLE session_counters")
    await execute(filled.auth, "UPDATE users SET password_hash = 'mallory'")
    for module, file in files.items():
        operator.told("restore", str(file), "--module", module)

    assert await both(filled) == before
    for module, url in (("agent", filled.agent), ("auth", filled.auth)):
        assert (await check(parse_url(url, "TEST"), STORAGES[module])).whole


@pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)
async def test_postgresql_is_dumped_with_its_own_program(
    filled: DatabaseUrls, operator: Operator, programs: str, tmp_path: Path
) -> None:
    """pg_dump is used where it is there and not older than the server, else the archive, and the reason is told."""
    if shutil.which("pg_dump", path=programs) is None:
        pytest.skip("the server of the tests brings no pg_dump")
    assert {file.suffix for file in backups(operator).values()} == {".pgdump"}
    old = tmp_path / "old"
    old.mkdir()
    for name in ("pg_dump", "pg_restore", "psql"):
        (old / name).write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.1'\n", encoding="utf-8")
        (old / name).chmod(0o755)
    operator.extra["PATH"] = f"{old}:{programs}"
    done = operator.db("backup", "kept", "--module", "agent")

    assert done.returncode == 0, done.stderr
    assert "as a portable archive, since pg_dump 9 is older than the server" in done.stdout
    assert (await check(parse_url(filled.agent, "TEST"), AGENT)).whole


def test_only_the_newest_are_kept(operator: Operator) -> None:
    """``--keep N`` removes the oldest of each module once the new one is there; what is no backup of ours stays."""
    folder = operator.folder / "kept"
    first = backups(operator)
    (folder / "codelab-notes.txt").touch()
    second = backups(operator)
    told = operator.told("backup", "kept", "--keep", "2", "--module", "agent")

    assert told["removed"] == [str(first["agent"])]
    left = {path.name for path in folder.iterdir()}
    assert {first["auth"].name, second["agent"].name, second["auth"].name, "codelab-notes.txt"} <= left
    assert not {first["agent"].name, f"{first['agent'].name}.json"} & left


def test_backups_of_one_second_are_in_order(tmp_path: Path) -> None:
    """They have numbers, and the first has none: the tenth is newer than the second."""
    names = [f"codelab-20261127T03463{second}Z-agent{number}.sqlite" for second in "34" for number in ("", "-2", "-10")]
    for name in (*reversed(names), "codelab-20261127T034633Z-auth.sqlite"):
        (tmp_path / f"{name}.json").touch()

    assert [path.stem for path in complete_backups(tmp_path, "agent")] == names


@pytest.mark.parametrize("harm", ["cut", "changed", "manifest", "gone"])
async def test_an_altered_backup_is_refused(operator: Operator, migrated: DatabaseUrls, harm: str) -> None:
    """Nothing is changed by a file that is not as it was written."""
    before = await both(migrated)
    file = backups(operator, "--module", "agent")["agent"]
    note = Path(f"{file}.json")
    content = bytearray(file.read_bytes())
    if harm == "cut":
        file.write_bytes(content[:-100])
    elif harm == "changed":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif harm == "manifest":
        note.write_text("{}", encoding="utf-8")
    else:
        note.unlink()
    line = operator.line("restore", str(file), code=1)

    assert {
        "cut": "is not as it was written",
        "changed": "is not as it was written",
        "manifest": "its format None is unknown",
        "gone": "cannot be read: No such file",
    }[harm] in line
    assert await both(migrated) == before


def test_the_key_file_is_asked_for(operator: Operator) -> None:
    """The key file is named as not included; restoring without it is refused unless the operator says so."""
    done = operator.db("backup", "kept", "--module", "auth")
    key_file = operator.folder / "auth.key"
    assert f"NOT included: {key_file}" in done.stdout
    (file,) = (operator.folder / "kept").glob("*.json")
    key_file.rename(operator.folder / "elsewhere.key")
    assert "auth.key is missing, not the one with which" in operator.line("restore", str(file), code=2)
    key_file.write_text("another", encoding="utf-8")
    assert "auth.key is another, not the one with which" in operator.line("restore", str(file), code=2)

    assert operator.db("restore", str(file), "--without-key").returncode == 0


async def test_a_served_database_is_not_replaced(operator: Operator, migrated: DatabaseUrls, tmp_path: Path) -> None:
    """A backup works beside a server, a restore is refused while one runs."""
    async with serving(make_settings(migrated, tmp_path)):
        file = (await asyncio.to_thread(backups, operator, "--module", "agent"))["agent"]
        line = await asyncio.to_thread(operator.line, "restore", str(file), code=2)

    assert "a codelab server uses this database; stop it before a restore" in line


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
async def test_the_old_file_is_kept(operator: Operator, filled: DatabaseUrls) -> None:
    """The database that was replaced lies beside the new one, whole; nothing else is left of the restore."""
    file = backups(operator, "--module", "agent")["agent"]
    await execute(filled.agent, "UPDATE sessions SET title = 'newer'")
    newer = await digests("agent", filled.agent)
    kept = Path(operator.told("restore", str(file))["kept"])

    assert await digests("agent", f"sqlite:///{kept}") == newer
    assert [path.name for path in operator.folder.glob(".agent*")] == []


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
async def test_a_damaged_database_is_replaced_by_hand(operator: Operator, filled: DatabaseUrls) -> None:
    """A file that SQLite cannot close is left alone, and the line says what to do; then the restore works."""
    file = backups(operator, "--module", "agent")["agent"]
    before = await digests("agent", filled.agent)
    place = operator.folder / "agent.db"
    for suffix in ("-wal", "-shm"):
        place.with_name(f"agent.db{suffix}").unlink(missing_ok=True)
    place.write_bytes(b"not a database at all" * 1000)
    assert "move it away with its -wal and -shm files, and restore again" in operator.line("restore", str(file), code=1)
    place.rename(operator.folder / "damaged.db")
    operator.told("restore", str(file))

    assert await digests("agent", filled.agent) == before


def test_both_modules_in_one_database(migrated: DatabaseUrls, operator: Operator, tmp_path: Path) -> None:
    """Modules that share a database are backed up and restored each on its own."""
    shared = f"sqlite:///{tmp_path}/one.db" if migrated.agent.startswith("sqlite") else migrated.agent
    operator.databases = type(migrated)(agent=shared, auth=shared)
    assert operator.db("upgrade").returncode == 0
    files = backups(operator)
    for module in files:
        operator.told("restore", str(files[module]))

    assert operator.db("check").returncode == 0


async def test_a_backup_under_load_is_whole(
    databases: DatabaseUrls, operator: Operator, tmp_path: Path, programs: str
) -> None:
    """Taken while up to 50 turns/s are asked for, it restores to databases that ``db check`` passes."""
    operator.databases = databases
    operator.extra["AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE"] = str(tmp_path / "load.key")
    asked = answered = 0
    with forked_server(
        tmp_path, databases, PATH=programs, AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE=str(tmp_path / "load.key")
    ) as server:
        async with server.login() as http:
            ada = Person(http, "admin")
            turns: set[asyncio.Task[Any]] = set()

            async def turn() -> None:
                nonlocal answered
                session = await ada.session(agent="ask")
                await ada.say(session, "count to 5")
                answered += 1

            def take() -> list[dict[str, Path]]:
                taken = [backups(operator)]
                while len(taken) < 2 or answered <= 20:
                    taken.append(backups(operator))
                return taken

            taking = asyncio.create_task(asyncio.to_thread(take))
            began = time.monotonic()
            while not taking.done():
                while len(turns) >= 50:
                    await asyncio.wait(turns, return_when=asyncio.FIRST_COMPLETED)
                asked += 1
                task = asyncio.create_task(turn())
                turns.add(task)
                task.add_done_callback(turns.discard)
                await asyncio.sleep(max(0.0, began + asked / 50 - time.monotonic()))
            made = await taking
            seconds = time.monotonic() - began
            await asyncio.gather(*turns)
        logger.info("%.0f turns/s asked for, %d in all, %.1f s", asked / seconds, answered, seconds)
        assert server.stop() == 0
    for files in made:
        for file in files.values():
            operator.told("restore", str(file))
        told = operator.told("check")
        assert told["whole"], told
    assert answered > 20


@pytest.mark.timeout(1800)  # with --soak; otherwise a few seconds
async def test_a_restore_that_is_killed(filled: DatabaseUrls, operator: Operator, *, soak: bool) -> None:
    """Kill -9 at any instant: the old rows are there, or the new, whole; or it is refused with the command to run."""
    new = await digests("agent", filled.agent)
    forms = [backups(operator, "--module", "agent")["agent"]]
    forms.append(backups(operator, "--module", "agent", "--portable")["agent"])
    await execute(filled.agent, "UPDATE sessions SET title = 'the old one'")
    old = await digests("agent", filled.agent)
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    ends = []
    for number in range(20 if soak else 2):
        file = forms[number % 2]
        command = [sys.executable, "-m", "codelab", "db", "restore", str(file)]
        with (operator.folder / "restore.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *command, env=operator.environ, cwd=operator.folder, stdout=log, stderr=log
            )
        await asyncio.sleep(chance.uniform(0.3, 2.0))  # the instant of the kill is what is tried
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        started = operator.db("upgrade", "--module", "agent")
        if started.returncode:
            assert "did not come to its end" in started.stderr, (seed, started.stderr)
            assert f"codelab db restore {file} --module agent" in started.stderr
            ends.append("refused")
            operator.told("restore", str(file))
        found = await digests("agent", filled.agent)
        assert found in (old, new), seed
        ends.append("old" if found == old else "new")
        assert (await check(parse_url(filled.agent, "TEST"), AGENT)).whole
        await execute(filled.agent, "UPDATE sessions SET title = 'the old one'")
    logger.info("seed %d: %s", seed, ends)
    operator.told("restore", str(forms[0]))
    assert await digests("agent", filled.agent) == new
    assert json.loads(operator.db("status", "--json").stdout)["modules"]
