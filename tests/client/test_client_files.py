from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

import pytest

from codelab.client.tools import files
from codelab.client.tools.errors import ToolError
from codelab.client.tools.files import (
    CreateDirectory,
    ListFiles,
    ReadFile,
    WriteFile,
    create_directory,
    list_files,
    read_file,
    write_file,
)

if TYPE_CHECKING:
    from pathlib import Path

    from codelab.client.tools.paths import Folder


def names_in(directory: Path) -> list[str]:
    """Return what a directory holds."""
    return sorted(path.name for path in directory.iterdir())


class TestReadFile:
    def test_a_whole_file(self, folder: Folder, root: Path) -> None:
        """Content, the range and the number of lines are told."""
        (root / "a.txt").write_text("one\ntwo\nthree")

        assert read_file(folder, ReadFile("a.txt")) == {
            "path": "a.txt",
            "content": "one\ntwo\nthree",
            "start_line": 1,
            "end_line": 3,
            "total_lines": 3,
            "truncated": False,
        }

    @pytest.mark.parametrize(
        ("start", "end", "content", "last"),
        [
            (2, 2, "two\n", 2),
            (2, None, "two\nthree\n", 3),
            (None, 1, "one\n", 1),
            (3, 99, "three\n", 3),
            (9, None, "", 8),
        ],
    )
    def test_some_lines(
        self, folder: Folder, root: Path, start: int | None, end: int | None, content: str, last: int
    ) -> None:
        """Lines count from 1 and both ends are included."""
        (root / "a.txt").write_text("one\ntwo\nthree\n")
        found = read_file(folder, ReadFile("a.txt", start_line=start, end_line=end))

        assert (found["content"], found["end_line"], found["total_lines"]) == (content, last, 3)

    def test_line_ends_are_kept(self, folder: Folder, root: Path) -> None:
        """What is read can be written back byte for byte."""
        (root / "a.txt").write_bytes(b"one\r\ntwo\r\n")

        assert read_file(folder, ReadFile("a.txt"))["content"] == "one\r\ntwo\r\n"

    def test_too_much_is_cut_and_said(self, folder: Folder, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The text is bounded in bytes, never in the middle of a character, and the lines are still counted."""
        monkeypatch.setattr(files, "MAX_TEXT", 10)
        (root / "a.txt").write_text("äääö\nxyz\nlast\n")
        found = read_file(folder, ReadFile("a.txt"))

        assert (found["content"], found["truncated"], found["end_line"]) == ("äääö\nx", True, 2)
        assert found["total_lines"] == 3

    @pytest.mark.parametrize(
        ("path", "encoding", "message"),
        [
            ("none.txt", "utf-8", "none.txt: No such file"),
            ("binary", "utf-8", "binary: is not text in utf-8"),
            ("dir", "utf-8", "dir: is a directory"),
            ("a.txt", "klingon", "encoding: 'klingon' is not a known text encoding"),
            ("a.txt", "base64", "encoding: 'base64' is not a known text encoding"),
        ],
    )
    def test_what_cannot_be_read_is_said(
        self, folder: Folder, root: Path, path: str, encoding: str, message: str
    ) -> None:
        """The error names the file or the argument."""
        (root / "binary").write_bytes(b"\xff\xfe\x00")
        (root / "dir").mkdir()
        (root / "a.txt").write_text("a")
        with pytest.raises(ToolError, match=message):
            read_file(folder, ReadFile(path, encoding))

    def test_a_range_must_run_forward(self, folder: Folder) -> None:
        """An end before the start is refused."""
        with pytest.raises(ToolError, match="end_line"):
            read_file(folder, ReadFile("a.txt", start_line=3, end_line=2))


class TestListFiles:
    @pytest.fixture(autouse=True)
    def tree(self, root: Path) -> None:
        """A small tree with a link and hidden names."""
        (root / "src" / "deep").mkdir(parents=True)
        (root / "src" / "deep" / "a.py").write_text("12345")
        (root / "src" / "b.md").write_text("")
        (root / ".hidden").write_text("")
        (root / "link").symlink_to("src")

    def listed(self, folder: Folder, path: str = ".", **options: Any) -> list[tuple[str, str, int]]:
        """List; returns path, type and size of each entry."""
        found = list_files(folder, ListFiles(path, **options))["entries"]
        return [(entry["path"], entry["type"], entry["size"]) for entry in found]

    def test_one_directory(self, folder: Folder) -> None:
        """Types are told, hidden names are left out, links are not followed."""
        assert self.listed(folder) == [("link", "symlink", 0), ("src", "directory", 0)]

    def test_everything_below(self, folder: Folder) -> None:
        """``recursive`` walks down, ``include_hidden`` shows the rest."""
        assert self.listed(folder, recursive=True, include_hidden=True) == [
            (".hidden", "file", 0),
            ("link", "symlink", 0),
            ("src", "directory", 0),
            ("src/b.md", "file", 0),
            ("src/deep", "directory", 0),
            ("src/deep/a.py", "file", 5),
        ]

    @pytest.mark.parametrize("pattern", ["*.py", "src/*/a.*", "src/*.py"])
    def test_a_pattern(self, folder: Folder, pattern: str) -> None:
        """A glob matches names, or paths when it holds a slash."""
        assert self.listed(folder, recursive=True, pattern=pattern) == [("src/deep/a.py", "file", 5)]

    def test_a_subdirectory_is_listed_with_paths_from_the_folder(self, folder: Folder) -> None:
        """Each path can be handed to another tool as it is."""
        assert [path for path, _, _ in self.listed(folder, "src/deep")] == ["src/deep/a.py"]

    def test_too_many_entries_are_cut_and_said(self, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
        """The listing is bounded."""
        monkeypatch.setattr(files, "MAX_ENTRIES", 2)
        found = list_files(folder, ListFiles(".", recursive=True))

        assert (len(found["entries"]), found["truncated"]) == (2, True)

    def test_a_file_is_no_directory(self, folder: Folder) -> None:
        """The error names the path."""
        with pytest.raises(ToolError, match=r"src/b\.md: Not a directory"):
            list_files(folder, ListFiles("src/b.md"))

    def test_a_name_that_is_not_utf8_can_be_sent(self, folder: Folder, root: Path) -> None:
        """Odd bytes in a name become U+FFFD."""
        (root / "src" / os.fsdecode(b"\xff.txt")).write_text("")

        assert ("src/\ufffd.txt", "file", 0) in self.listed(folder, "src")


class TestWriteFile:
    def test_a_new_file(self, folder: Folder, root: Path) -> None:
        """It is created with the rights that any new file of the person has, and nothing else is left."""
        (root / "ordinary").write_text("")

        assert write_file(folder, WriteFile("a.txt", "häh\n")) == {
            "path": "a.txt",
            "bytes_written": 5,
            "created": True,
            "backup": None,
        }
        assert (root / "a.txt").read_bytes() == "häh\n".encode()
        assert (root / "a.txt").stat().st_mode == (root / "ordinary").stat().st_mode
        assert names_in(root) == ["a.txt", "ordinary"]

    def test_an_existing_file_keeps_its_mode_and_its_old_version(self, folder: Folder, root: Path) -> None:
        """The old version lies beside it under ``.bak``."""
        (root / "run.sh").write_text("old")
        (root / "run.sh").chmod(0o750)
        found = write_file(folder, WriteFile("run.sh", "new"))

        assert (found["created"], found["backup"]) == (False, "run.sh.bak")
        assert (root / "run.sh.bak").read_text() == "old"
        assert stat.S_IMODE((root / "run.sh").stat().st_mode) == 0o750

    def test_without_backup_only_the_file_changes(self, folder: Folder, root: Path) -> None:
        """``backup: false`` leaves nothing behind."""
        (root / "a.txt").write_text("old")
        write_file(folder, WriteFile("a.txt", "new", backup=False))

        assert names_in(root) == ["a.txt"]

    def test_a_backup_never_goes_through_a_link(self, folder: Folder, root: Path, tmp_path: Path) -> None:
        """A ``.bak`` that is a link is replaced, not followed."""
        (tmp_path / "victim").write_text("mine")
        (root / "a.txt").write_text("old")
        (root / "a.txt.bak").symlink_to(tmp_path / "victim")
        write_file(folder, WriteFile("a.txt", "new"))

        assert (tmp_path / "victim").read_text() == "mine"
        assert (root / "a.txt.bak").read_text() == "old"

    def test_readers_see_the_old_or_the_new_file_whole(self, folder: Folder, root: Path) -> None:
        """The file is replaced, not rewritten: an open one keeps the old text."""
        (root / "a.txt").write_text("old")
        with (root / "a.txt").open() as reader:
            write_file(folder, WriteFile("a.txt", "new"))

            assert reader.read() == "old"

    def test_directories_are_made_only_when_asked(self, folder: Folder, root: Path) -> None:
        """``create_dirs`` makes the way."""
        with pytest.raises(ToolError, match=r"x/y/a\.txt: No such file"):
            write_file(folder, WriteFile("x/y/a.txt", "a"))
        write_file(folder, WriteFile("x/y/a.txt", "a", create_dirs=True))

        assert (root / "x" / "y" / "a.txt").read_text() == "a"

    @pytest.mark.parametrize(
        ("path", "content", "encoding", "message"),
        [
            ("dir", "a", "utf-8", "dir: is a directory"),
            (".", "a", "utf-8", "the folder of this chat itself"),
            ("dir/", "a", "utf-8", "name of a directory"),
            ("a.txt", "ä", "ascii", "content: cannot be written in ascii"),
            ("a.txt", "\ud800", "utf-8", "content: cannot be written in utf-8"),
            ("a.txt", "a", "rot13", "encoding: 'rot13'"),
        ],
    )
    def test_what_cannot_be_written_is_said(
        self, folder: Folder, root: Path, path: str, content: str, encoding: str, message: str
    ) -> None:
        """The error names the argument, and nothing is left behind."""
        (root / "dir").mkdir()
        with pytest.raises(ToolError, match=message):
            write_file(folder, WriteFile(path, content, encoding))

        assert names_in(root) == ["dir"]
        assert names_in(root / "dir") == []

    def test_a_failed_write_leaves_the_old_file_and_no_debris(
        self, folder: Folder, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A full disk costs nothing that was there."""

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        (root / "a.txt").write_text("old")
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(ToolError, match=r"a\.txt: No space left on device"):
            write_file(folder, WriteFile("a.txt", "new"))

        assert names_in(root) == ["a.txt"]
        assert (root / "a.txt").read_text() == "old"


class TestCreateDirectory:
    def test_with_its_parents(self, folder: Folder, root: Path) -> None:
        """The whole way is made; a second time nothing is created."""
        assert create_directory(folder, CreateDirectory("a/b")) == {"path": "a/b", "created": True}
        assert create_directory(folder, CreateDirectory("a/b")) == {"path": "a/b", "created": False}
        assert (root / "a" / "b").is_dir()

    def test_without_its_parents(self, folder: Folder) -> None:
        """``recursive: false`` makes one directory only."""
        with pytest.raises(ToolError, match="a/b: No such file"):
            create_directory(folder, CreateDirectory("a/b", recursive=False))

    def test_a_file_in_its_place(self, folder: Folder, root: Path) -> None:
        """What is there and no directory is said."""
        (root / "a").write_text("")
        with pytest.raises(ToolError, match="a: exists and is not a directory"):
            create_directory(folder, CreateDirectory("a"))
