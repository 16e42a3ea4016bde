from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

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
from codelab.client.tools.paths import Folder, is_sensitive
from codelab.client.tools.search import SearchInCode, search_in_code

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder that no tool may reach, with a file in it."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "secret.txt").write_text("top secret")
    return path


def every_tool(folder: Folder, path: str) -> list[str]:
    """Try a path with every file tool; returns the errors."""
    errors = []
    attempts: tuple[Callable[[], object], ...] = (
        lambda: read_file(folder, ReadFile(path)),
        lambda: list_files(folder, ListFiles(path)),
        lambda: search_in_code(folder, SearchInCode("secret", path)),
        lambda: write_file(folder, WriteFile(path, "changed", create_dirs=True)),
        lambda: create_directory(folder, CreateDirectory(path)),
    )
    for attempt in attempts:
        with pytest.raises(ToolError) as caught:
            attempt()
        errors.append(str(caught.value))
    return errors


class TestOutside:
    @pytest.mark.parametrize("path", ["../outside/secret.txt", "a/../../outside/secret.txt", "..", "/etc/passwd", "/"])
    def test_dots_and_absolute_paths_do_not_lead_out(self, folder: Folder, outside: Path, path: str) -> None:
        """Neither ``..`` nor an absolute path reaches anything outside, with any tool."""
        assert all("outside the folder" in error for error in every_tool(folder, path))
        assert (outside / "secret.txt").read_text() == "top secret"

    def test_a_sibling_with_the_same_beginning_is_outside(self, folder: Folder, root: Path) -> None:
        """``project-2`` is not in ``project``."""
        sibling = root.with_name("project-2")
        sibling.mkdir()
        (sibling / "a").write_text("secret")

        assert all("outside the folder" in error for error in every_tool(folder, str(sibling / "a")))

    def test_a_link_to_a_file_outside_is_refused(self, folder: Folder, root: Path, outside: Path) -> None:
        """A symbolic link in the folder is no door."""
        (root / "link").symlink_to(outside / "secret.txt")

        assert all("outside the folder" in error for error in every_tool(folder, "link"))
        assert (outside / "secret.txt").read_text() == "top secret"

    def test_a_link_to_a_new_file_outside_is_refused(self, folder: Folder, root: Path, outside: Path) -> None:
        """A dangling link does not make a file where it points."""
        (root / "link").symlink_to(outside / "new.txt")
        with pytest.raises(ToolError, match="outside the folder"):
            write_file(folder, WriteFile("link", "x"))

        assert not (outside / "new.txt").exists()

    def test_a_linked_parent_outside_is_refused(self, folder: Folder, root: Path, outside: Path) -> None:
        """Nor is a linked directory on the way."""
        (root / "dir").symlink_to(outside)

        assert all("outside the folder" in error for error in every_tool(folder, "dir/secret.txt"))
        assert all("outside the folder" in error for error in every_tool(folder, "dir/deep/new.txt"))
        assert [path.name for path in outside.iterdir()] == ["secret.txt"]

    def test_dots_behind_a_link_are_resolved_as_the_system_does(
        self, folder: Folder, root: Path, outside: Path
    ) -> None:
        """``link/..`` is the parent of the link's target, not of the link."""
        (outside / "deep").mkdir()
        (root / "link").symlink_to(outside / "deep")
        with pytest.raises(ToolError, match="outside the folder"):
            read_file(folder, ReadFile("link/../secret.txt"))

    @pytest.mark.parametrize("path", ["", "a\0b"])
    def test_no_path_at_all_is_an_error(self, folder: Folder, path: str) -> None:
        """An empty path and U+0000 are refused with a sentence."""
        with pytest.raises(ToolError, match="path: must be"):
            folder.resolve(path)

    def test_a_loop_of_links_is_an_error(self, folder: Folder, root: Path) -> None:
        """Links that lead to each other end in a sentence."""
        (root / "a").symlink_to("b")
        (root / "b").symlink_to("a")
        with pytest.raises(ToolError):
            read_file(folder, ReadFile("a"))

    def test_a_fifo_does_not_hang(self, folder: Folder, root: Path) -> None:
        """What is no regular file is refused at once."""
        os.mkfifo(root / "pipe")
        with pytest.raises(ToolError, match="not a regular file"):
            read_file(folder, ReadFile("pipe"))
        with pytest.raises(ToolError, match="not a regular file"):
            write_file(folder, WriteFile("pipe", "x"))


class TestInside:
    def test_an_absolute_path_inside_is_allowed(self, folder: Folder, root: Path) -> None:
        """The folder's own absolute paths work, and are answered relative to it."""
        (root / "a.txt").write_text("a")

        assert read_file(folder, ReadFile(str(root / "a.txt")))["path"] == "a.txt"

    def test_links_inside_are_followed_and_kept(self, folder: Folder, root: Path) -> None:
        """A write through a link in the folder changes its target; the link stays a link."""
        (root / "real.txt").write_text("old")
        (root / "link.txt").symlink_to("real.txt")
        write_file(folder, WriteFile("link.txt", "new", backup=False))

        assert (root / "real.txt").read_text() == "new"
        assert (root / "link.txt").is_symlink()

    def test_the_folder_may_itself_be_reached_by_a_link(self, tmp_path: Path, root: Path, data: Path) -> None:
        """A chat in a linked folder works in the real one."""
        (root / "a.txt").write_text("a")
        (tmp_path / "alias").symlink_to(root)
        folder = Folder(tmp_path / "alias", data)

        assert read_file(folder, ReadFile(str(tmp_path / "alias" / "a.txt")))["content"] == "a"


class TestSwap:
    def test_a_link_put_in_place_after_the_check_is_not_followed(
        self, folder: Folder, root: Path, outside: Path
    ) -> None:
        """A directory that becomes a link between the check and the use is refused by the walk."""
        (root / "dir").mkdir()
        place = folder.resolve("dir/secret.txt")
        (root / "dir").rmdir()
        (root / "dir").symlink_to(outside)
        with pytest.raises(ToolError), folder.open_file(place):
            pytest.fail("the file outside was opened")
        with pytest.raises(ToolError), folder.open_parent(place, make=True):
            pytest.fail("the directory outside was opened")

    def test_a_file_that_becomes_a_link_is_not_followed(self, folder: Folder, root: Path, outside: Path) -> None:
        """The last name is not followed either."""
        (root / "a.txt").write_text("a")
        place = folder.resolve("a.txt")
        (root / "a.txt").unlink()
        (root / "a.txt").symlink_to(outside / "secret.txt")
        with pytest.raises(ToolError, match="symbolic link"), folder.open_file(place):
            pytest.fail("the file outside was opened")

    def test_under_a_storm_of_swaps_nothing_leaks_and_nothing_outside_changes(
        self, folder: Folder, root: Path, outside: Path
    ) -> None:
        """While another process swaps a directory for a link, reads and writes stay inside or fail."""
        inner = root / "real"
        inner.mkdir()
        (inner / "secret.txt").write_text("inside")
        (root / "dir").symlink_to("real")
        stop = threading.Event()

        def storm() -> None:
            while not stop.is_set():
                for target in (outside, Path("real")):
                    (root / "next").symlink_to(target)
                    (root / "next").rename(root / "dir")

        thread = threading.Thread(target=storm)
        thread.start()
        seen = set()
        try:
            for _ in range(500):
                try:
                    seen.add(read_file(folder, ReadFile("dir/secret.txt"))["content"])
                    write_file(folder, WriteFile("dir/secret.txt", "inside", backup=False))
                except ToolError:
                    seen.add("refused")
        finally:
            stop.set()
            thread.join()

        assert "inside" in seen
        assert "top secret" not in seen
        assert (outside / "secret.txt").read_text() == "top secret"


class TestDataFolder:
    @pytest.fixture
    def home(self, tmp_path: Path) -> Folder:
        """A chat in a home directory, with codelab's data folder in it."""
        home = tmp_path / "home"
        (home / "share" / "codelab").mkdir(parents=True)
        (home / "share" / "codelab" / "server.json").write_text('{"secret": "s3"}')
        (home / "notes.txt").write_text("a secret recipe")
        return Folder(home, home / "share" / "codelab")

    @pytest.mark.parametrize("path", ["share/codelab/server.json", "share/codelab", "share/codelab/new", "link/new"])
    def test_it_is_outside_also_where_it_lies_in_the_folder(self, home: Folder, path: str) -> None:
        """No tool touches it, by its path or by a link."""
        Path(home.root, "link").symlink_to("share/codelab")

        assert all("data folder" in error for error in every_tool(home, path))

    def test_it_does_not_show_up_in_listings_and_searches(self, home: Folder) -> None:
        """A recursive walk goes around it."""
        listed = list_files(home, ListFiles(".", recursive=True))["entries"]
        found = search_in_code(home, SearchInCode("secret"))["matches"]

        assert [entry["path"] for entry in listed] == ["notes.txt", "share"]
        assert [match["path"] for match in found] == ["notes.txt"]

    def test_it_is_known_by_what_it_is_not_by_its_name(self, home: Folder) -> None:
        """Another name of the same directory, as on a file system that ignores case, is refused as well."""
        place = home.resolve("share/codelab2/server.json")
        # What a case-insensitive file system or a bind mount does: the checked name leads to the same directory.
        Path(home.root, "share", "codelab").rename(Path(home.root, "share", "codelab2"))
        with pytest.raises(ToolError, match="data folder"), home.open_file(place):
            pytest.fail("the server file was opened")

    def test_a_folder_inside_it_is_refused(self, tmp_path: Path, data: Path) -> None:
        """A chat in the data folder can do nothing."""
        (data / "sub").mkdir()
        with pytest.raises(ToolError, match="data folder"):
            Folder(data / "sub", data).resolve("a")


class TestSensitive:
    @pytest.mark.parametrize(
        "path",
        [
            ".env",
            ".ENV",
            ".env.local",
            "a/.Env",
            ".envs/production/db",
            "key.pem",
            "KEY.PEM",
            "id_rsa",
            "ID_ED25519",
            "key.pem.bak",
            "a/id_rsa.pub",
        ],
    )
    def test_files_of_secrets_are_known_in_any_case(self, path: str) -> None:
        """``.env*``, ``*.pem`` and ``id_*`` count in any letter case, and so do their backups."""
        assert is_sensitive(Path(path).parts)

    @pytest.mark.parametrize(
        "path", ["environment.py", "a.env.txt", "pem", "grid_1.py", "identity.py", "id/x", "id_x/a"]
    )
    def test_other_files_are_not(self, path: str) -> None:
        """Names that only look a bit like them are ordinary."""
        assert not is_sensitive(Path(path).parts)

    def test_a_link_to_one_is_one(self, folder: Folder, root: Path) -> None:
        """Another name does not hide it."""
        (root / ".env").write_text("KEY=1")
        (root / "notes.txt").symlink_to(".env")
        with pytest.raises(ToolError, match="not approved"):
            read_file(folder, ReadFile("notes.txt"))

        assert read_file(folder, ReadFile("notes.txt"), secrets_allowed=True)["content"] == "KEY=1"
