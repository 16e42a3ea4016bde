"""Read .env.example: what it sets, and what it offers behind a `#`."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ("ROOT", "default_lines", "names", "postgresql_lines")

ROOT = Path(__file__).resolve().parents[2]
_LINE = re.compile(r"^(?P<off>#?)(?P<name>[A-Z][A-Z0-9_]*)=(?P<value>.*)$")


def _lines() -> list[tuple[bool, str, str]]:
    found = [_LINE.match(line) for line in (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()]
    return [(not line["off"], line["name"], line["value"]) for line in found if line]


def names() -> set[str]:
    """Return every variable that the file names, set or offered."""
    return {name for _, name, _ in _lines()}


def default_lines() -> dict[str, str]:
    """Return what a plain copy of the file sets."""
    return {name: value for is_set, name, value in _lines() if is_set}


def postgresql_lines() -> dict[str, str]:
    """Return what the block `PostgreSQL` sets: from COMPOSE_PROFILES to the last database URL."""
    lines = [(name, value) for is_set, name, value in _lines() if not is_set]
    block: dict[str, str] = {}
    for name, value in lines[[name for name, _ in lines].index("COMPOSE_PROFILES") :]:
        block[name] = value
        if name == "AUTH_SERVICE__DB_URL":
            break
    return block
