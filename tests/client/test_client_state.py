from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from codelab.client import state
from codelab.client.errors import ClientError
from codelab.client.state import SessionBook, find_data_folder, make_data_folder, read_private_json, write_private

if TYPE_CHECKING:
    from pathlib import Path


def mode_of(path: Path) -> int:
    """Return the permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def test_the_data_folder_is_private(tmp_path: Path) -> None:
    """It is made with mode 0700, and one that was open to others is closed."""
    folder = tmp_path / "a" / "codelab"
    make_data_folder(folder)
    first = mode_of(folder)
    folder.chmod(0o755)
    make_data_folder(folder)

    assert (first, mode_of(folder)) == (0o700, 0o700)


def test_the_environment_names_the_data_folder(tmp_path: Path) -> None:
    """CODELAB_DATA_DIR wins over the operating system's folder."""
    assert find_data_folder({"CODELAB_DATA_DIR": str(tmp_path)}) == tmp_path
    assert find_data_folder({"CODELAB_DATA_DIR": ""}).name == "codelab"


def test_a_private_file_is_replaced_whole(data: Path) -> None:
    """The new file has mode 0600 whatever the old one had, and nothing else is left."""
    path = data / "x.json"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, b"{}")

    assert (path.read_bytes(), mode_of(path), [entry.name for entry in data.iterdir()]) == (b"{}", 0o600, ["x.json"])


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_may_read_is_not_trusted(data: Path, mode: int) -> None:
    """The sentence names the file and its mode."""
    path = data / "x.json"
    write_private(path, b"{}")
    path.chmod(mode)
    with pytest.raises(ClientError, match=f"x.json is open to others .mode {mode:04o}"):
        read_private_json(path)


def test_a_link_in_place_of_a_private_file_is_not_followed(data: Path, tmp_path: Path) -> None:
    """Nobody can make us read another file as ours."""
    write_private(tmp_path / "other.json", b"{}")
    (data / "x.json").symlink_to(tmp_path / "other.json")
    with pytest.raises(ClientError, match="cannot be read"):
        read_private_json(data / "x.json")


def test_nonsense_in_a_private_file_counts_as_nothing(data: Path) -> None:
    """A file that is no JSON, or absent, is as good as none."""
    write_private(data / "x.json", b"{")

    assert read_private_json(data / "x.json") is None
    assert read_private_json(data / "y.json") is None


def test_the_latest_session_is_remembered_per_server_and_folder(data: Path) -> None:
    """Neither another folder nor another server gets it."""
    book = SessionBook(data)
    book.remember("local", "/a", "s1")
    book.remember("local", "/a", "s2")
    book.remember("https://x", "/a", "s3")

    assert book.latest("local", "/a") == "s2"
    assert book.latest("https://x", "/a") == "s3"
    assert book.latest("local", "/b") is None
    assert mode_of(data / "sessions.json") == 0o600


def test_the_oldest_folders_are_forgotten(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The book does not grow for ever."""
    monkeypatch.setattr(state, "MAX_REMEMBERED", 2)
    book = SessionBook(data)
    for name in "abc":
        book.remember("local", name, name)

    assert [book.latest("local", name) for name in "abc"] == [None, "b", "c"]
