"""An empty home for a person who runs codelab for the first time."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """An empty home; the local server that a test started in it is ended afterwards."""
    folder = tmp_path / "home"
    folder.mkdir()
    yield folder
    for file in folder.rglob("server.json"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(json.loads(file.read_text(encoding="utf-8"))["pid"], signal.SIGTERM)
