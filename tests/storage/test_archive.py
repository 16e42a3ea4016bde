"""The portable archive: what it holds, and that nothing but a whole one is imported."""

from __future__ import annotations

import asyncio
import io
import re
import shutil
import sys
import tarfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from alembic.script import ScriptDirectory

from codelab.db import parse_url
from codelab.installation import MODULES
from codelab.storage.archive_reader import ArchivedModule, read_manifest
from codelab.storage.load import Job, load
from codelab.storage.rows import open_rows
from tests.storage.commands import call, digests, document, refused
from tests.storage.hostile import ROWS, contents
from tests.support.databases import DatabaseUrls

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable

    from codelab.db import ModuleSchema

AUTH = MODULES["auth"].schema
Members = list[tuple[str, bytes]]


class Silent:
    """Show no progress."""

    def begin(self, what: str, total: int | None) -> None:
        """Show nothing."""

    def advance(self, rows: int) -> None:
        """Show nothing."""


@pytest.fixture
def archive(hostile: DatabaseUrls, tmp_path: Path) -> Path:
    """An archive of both modules."""
    file = tmp_path / "all.tar.zst"
    document("export", str(file), databases=hostile)
    return file


def unpack(file: Path) -> Members:
    """Read an archive with nothing of codelab."""
    with zstd.open(file, "rb") as raw, tarfile.open(fileobj=raw, mode="r|") as tar:
        return [(member.name, (tar.extractfile(member) or io.BytesIO()).read()) for member in tar]


def pack(file: Path, members: Members, *, kind: bytes = tarfile.REGTYPE) -> None:
    """Write an archive of these members; ``kind`` is what the last one is."""
    with zstd.open(file, "wb") as raw, tarfile.open(fileobj=raw, mode="w|", format=tarfile.USTAR_FORMAT) as tar:
        for number, (name, content) in enumerate(members, 1):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            if kind != tarfile.REGTYPE and number == len(members):
                member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member, io.BytesIO(content))


def with_sums(members: Members) -> Members:
    """Make the sums fit, as somebody would who changes an archive on purpose."""
    kept = [(name, content) for name, content in members if name != "SHA256SUMS"]
    sums = "".join(f"{sha256(content).hexdigest()}  {name}\n" for name, content in kept)
    return [*kept, ("SHA256SUMS", sums.encode())]


def test_it_is_read_without_codelab(archive: Path, hostile: DatabaseUrls) -> None:
    """As its README says: sums of the members, rows as JSON Lines, digests that anybody can compute."""
    assert archive.stat().st_mode & 0o777 == 0o600
    members = dict(unpack(archive))
    names = list(members)
    assert (names[0], names[1], names[-2:]) == ("README.txt", "format.json", ["manifest.json", "SHA256SUMS"])
    for line in members["SHA256SUMS"].decode().splitlines():
        digest, name = line.split("  ")
        assert sha256(members[name]).hexdigest() == digest

    manifest = msgspec.json.decode(members["manifest.json"])
    assert manifest["header"] == msgspec.json.decode(members["format.json"])
    for module, tallies in manifest["tallies"].items():
        for table, tally in tallies.items():
            parts = [content for name, content in members.items() if name.startswith(f"{module}/{table}.")]
            lines = [line for part in parts for line in part.removesuffix(b"\n").split(b"\n")]
            total = sum(int.from_bytes(sha256(line).digest(), "big") for line in lines) % 2**256
            assert (len(lines), f"{total:064x}") == (tally["rows"], tally["digest"])
    columns = [column["name"] for column in manifest["header"]["modules"]["auth"]["tables"]["users"]]
    lines = members["auth/users.000001.jsonl"].splitlines()
    rows = [dict(zip(columns, msgspec.json.decode(line), strict=True)) for line in lines]
    assert len(rows) > ROWS
    assert {type(row["is_active"]) for row in rows} == {int}
    assert any(row["created_at"] == "9999-12-31T23:59:59.999999Z" for row in rows)


def test_a_file_that_is_there_is_kept(archive: Path, hostile: DatabaseUrls) -> None:
    """An export never writes over a file, and leaves none behind when it fails."""
    before = archive.read_bytes()

    assert "is there already" in refused("export", str(archive), databases=hostile, code=1)
    assert archive.read_bytes() == before
    nowhere = archive.parent / "no" / "folder.tar.zst"
    assert "cannot be written" in refused("export", str(nowhere), databases=hostile, code=1)
    assert sorted(path.name for path in archive.parent.glob("*.partial")) == []


def test_every_member_is_checked(archive: Path, make: Callable[[str], str]) -> None:
    """One changed byte in any member is found before anything is written; so is a member less, more or elsewhere."""
    members = unpack(archive)
    altered: dict[str, Members] = {}
    for place, (name, content) in enumerate(members):
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        altered[f"flipped {name}"] = [*members[:place], (name, flipped), *members[place + 1 :]]
        altered[f"without {name}"] = members[:place] + members[place + 1 :]
        altered[f"twice {name}"] = [*members[: place + 1], *members[place:]]
    altered["exchanged"] = [*members[:3], members[4], members[3], *members[5:]]
    altered["more"] = with_sums([*members[:-2], ("agent/other.000001.jsonl", b"[]\n"), members[-2]])
    altered["outside"] = with_sums([*members[:-2], ("../../outside", b"x"), members[-2]])
    altered["after"] = [*members, ("agent/sessions.000002.jsonl", b"")]
    target = make("sqlite")
    for what, found in altered.items():
        pack(archive, found)
        line = refused("import", str(archive), databases=DatabaseUrls(target, target), code=1)
        assert "is no whole archive of codelab" in line, what
        assert not Path(target.removeprefix("sqlite:///")).exists(), what

    pack(archive, [*members, ("link", b"")], kind=tarfile.SYMTYPE)
    line = refused("import", str(archive), databases=DatabaseUrls(target, target), code=1)
    assert "an archive of codelab has no such member" in line


def test_the_file_is_checked(archive: Path, make: Callable[[str], str]) -> None:
    """A file that is cut, that has a flipped bit or something behind its end, or that is none of ours, is refused."""
    whole = archive.read_bytes()
    size = len(whole)
    target = make("sqlite")
    broken = [whole[:cut] for cut in (0, 3, size // 3, size - 1)]
    # Not before the sixth byte: those say which format it is and how much memory reading takes, not what is in it.
    broken += [whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :] for at in range(6, size, size // 13)]
    broken += [whole + b"more", whole + whole, b"not an archive" * 100]
    for content in broken:
        archive.write_bytes(content)
        line = refused("import", str(archive), databases=DatabaseUrls(target, target), code=1)
        assert str(archive) in line
        assert not Path(target.removeprefix("sqlite:///")).exists()
    assert "cannot be read" in refused("import", "nowhere.tar.zst", databases=DatabaseUrls(target, target), code=1)


@pytest.mark.parametrize(
    ("pattern", "new", "part"),
    [
        (r'"format": 1', '"format": 2', "its format 2 is unknown to this program; install a newer version"),
        (r'"revision": "\w+"', '"revision": "x9"', "which is unknown to this program, so a newer one made them"),
        (r'"users"', '"people"', "the tables are not those of schema revision"),
        (r'"email"', '"mail"', "source and target do not have the same columns (email, mail)"),
    ],
)
def test_changes_on_purpose(
    archive: Path, make: Callable[[str], str], dialect: str, pattern: str, new: str, part: str
) -> None:
    """Sums that were made to fit do not help: what the header says is held against what this program knows."""
    members = []
    for name, content in unpack(archive):
        changed = re.sub(pattern, new, content.decode()).encode() if name.endswith(".json") else content
        members.append((name.replace("users", "people") if new == '"people"' else name, changed))
    pack(archive, with_sums(members))
    target = make(dialect)

    result = call("import", str(archive), "--module", "auth", databases=DatabaseUrls(target, target))

    assert result.exit_code in {1, 2}
    assert part in result.stderr
    left = refused("copy", "--from", target, "--to", make("sqlite"), code=2)
    assert ("it has no tables" if dialect == "postgresql" else "there is no such file") in left


@pytest.mark.parametrize("line", [b"[1]", b"[", b"{}", b"", b"\xff", b"[" * 2000])
def test_lines_that_are_no_rows(archive: Path, make: Callable[[str], str], dialect: str, line: bytes) -> None:
    """A line that is no row of its table stops the import, and the target is as it was."""
    name = "auth/oauth_clients.000001.jsonl"
    members = [(n, content + line + b"\n" if n == name else content) for n, content in unpack(archive)]
    pack(archive, with_sums(members))
    target = make(dialect)

    result = call("import", str(archive), "--module", "auth", databases=DatabaseUrls(target, target))

    assert result.exit_code == 1, result.output
    assert f"{name}: a line is no row of the table" in result.stderr
    assert "is as it was" in result.stderr


def test_rows_that_are_not_those_of_the_manifest(archive: Path, make: Callable[[str], str], dialect: str) -> None:
    """A row that was changed, with all sums made to fit, is found by the digest of its table before the commit."""
    members = [
        (name, content.replace(b'"00', b'"XX', 1) if name.startswith("auth/users") else content)
        for name, content in unpack(archive)
    ]
    pack(archive, with_sums(members))
    target = make(dialect)

    result = call("import", str(archive), "--module", "auth", databases=DatabaseUrls(target, target))

    assert result.exit_code == 1
    assert "the rows are not those that the manifest tells of" in result.stderr
    assert "is as it was" in result.stderr


def test_import_into_a_newer_schema(
    archive: Path, hostile: DatabaseUrls, make: Callable[[str], str], dialect: str, tmp_path: Path
) -> None:
    """An archive of an older codelab is loaded at its revision, verified, and then brought to the newest."""
    newer = next_version(AUTH, tmp_path)
    target = make(dialect)
    url = parse_url(target, "TEST_DB_URL")

    query = "SELECT (SELECT version_num FROM auth_alembic_version), count(*) FROM users WHERE nickname = 'x'"

    async def run() -> Any:
        manifest = read_manifest(archive, Silent())
        job = Job(newer, ArchivedModule(archive, manifest, "auth"), url, "an import", "again")
        await load([job], Silent())
        async with open_rows(url, writing=False) as rows, rows.transaction():
            return await rows.call(lambda connection: connection.exec_driver_sql(query).one())

    revision, rows = asyncio.run(run())
    assert (revision, rows > ROWS) == ("auth_next", True)
    assert contents(target, AUTH.metadata) == contents(hostile.auth, AUTH.metadata)


def next_version(schema: ModuleSchema, folder: Path) -> ModuleSchema:
    """Make the schema of a module as a later codelab might have it."""
    migrations = folder / "newer"
    shutil.copytree(schema.migrations, migrations)
    head = ScriptDirectory(str(schema.migrations)).get_current_head()
    (migrations / "versions" / "next.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n"
        f"revision, down_revision, branch_labels, depends_on = 'auth_next', {head!r}, None, None\n"
        "def upgrade():\n"
        "    with op.batch_alter_table('users') as batch:\n"
        "        batch.add_column(sa.Column('nickname', sa.Text(), nullable=False, server_default='x'))\n",
        encoding="utf-8",
    )
    return replace(schema, migrations=migrations)


def test_one_module_of_an_archive(
    archive: Path, hostile: DatabaseUrls, make: Callable[[str], str], dialect: str
) -> None:
    """``--module`` takes one of two out of a file, and the other's tables are not made."""
    target = make(dialect)
    answer = document("import", str(archive), "--module", "agent", databases=DatabaseUrls(target, target))

    assert list(digests(answer)) == ["agent"]
    agent = MODULES["agent"].schema.metadata
    assert contents(target, agent) == contents(hostile.agent, agent)
    line = refused("copy", "--from", target, "--to", make("sqlite"), "--module", "auth", code=2)
    assert "it has no tables of module auth" in line
