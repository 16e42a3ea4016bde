from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.reference_import.reference import Reference
from tests.support.server import make_settings

if TYPE_CHECKING:
    from pathlib import Path

    from codelab.settings import Settings
    from tests.support.databases import DatabaseUrls


@pytest.fixture
def sample(tmp_path: Path) -> Reference:
    """The databases that the reference made itself."""
    return Reference.sample(tmp_path / "reference")


@pytest.fixture
def reference(tmp_path: Path) -> Reference:
    """An installation of the reference with one user and no session."""
    return Reference.empty(tmp_path / "reference")


@pytest.fixture
def settings(databases: DatabaseUrls, tmp_path: Path) -> Settings:
    """An installation of ours whose databases are empty: no server ever started on them."""
    return make_settings(databases, tmp_path)
