"""What a setting is: one environment variable with its default, its meaning, and how its text is read."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = (
    "LOG_LEVEL",
    "MEBIBYTE",
    "IPNetwork",
    "Variable",
    "hosts",
    "internal_key",
    "keep",
    "names",
    "networks",
    "number",
    "one_of",
    "optional",
    "optional_path",
    "path",
    "places",
    "share",
    "switch",
    "truth",
    "variable",
    "whole",
)

T = TypeVar("T")
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Variable:
    """Describe one environment variable: its name, default as text, meaning, and whether it may hold a secret."""

    name: str
    default: str
    meaning: str
    parse: Callable[[str], Any]
    secret: bool = False


def variable(name: str, default: str, meaning: str, parse: Callable[[str], T], *, secret: bool = False) -> T:
    """Declare a setting as a field of a frozen dataclass."""
    described = Variable(name, default, meaning, parse, secret)
    # A secret stays out of the repr, and so out of every log and traceback that shows settings.
    return field(default_factory=lambda: parse(default), metadata={"variable": described}, repr=not secret)


def optional(value: str) -> str | None:
    """Take text, or None for none."""
    return value or None


def path(value: str) -> Path:
    """Read a path; ``~`` is a home folder."""
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ValueError("there is no such user, or no home folder") from None


def optional_path(value: str) -> Path | None:
    """Read a path, or None for none."""
    return path(value) if value else None


def number(low: float, high: float) -> Callable[[str], float]:
    """Read a number from ``low`` to ``high``."""

    def parse(value: str) -> float:
        try:
            parsed = float(value)
        except ValueError:
            parsed = float("nan")
        if not low <= parsed <= high:
            raise ValueError(f"a number from {low:g} to {high:g} is expected")
        return parsed

    return parse


def whole(low: int, high: int) -> Callable[[str], int]:
    """Read a whole number from ``low`` to ``high``."""

    def parse(value: str) -> int:
        if not re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", value) or not low <= int(value) <= high:
            raise ValueError(f"a whole number from {low} to {high} is expected")
        return int(value)

    return parse


def one_of(*choices: str) -> Callable[[str], str]:
    """Read one of some words, in any case."""

    def parse(value: str) -> str:
        if value.lower() not in choices:
            raise ValueError(f"one of {', '.join(choices)} is expected")
        return value.lower()

    return parse


def switch(value: str) -> bool:
    """Read ``on`` or ``off``."""
    return one_of("on", "off")(value) == "on"


def truth(value: str) -> bool:
    """Read ``true`` or ``false``, in the words of the reference system and in ours."""
    word = one_of("true", "1", "yes", "on", "false", "0", "no", "off")(value)
    return word in {"true", "1", "yes", "on"}


def hosts(value: str) -> tuple[str, ...]:
    """Read names or addresses of this server by comma, without ports."""
    found = tuple(part.strip().lower().strip("[]") for part in value.split(",") if part.strip())
    if any("/" in name or (name.rpartition(":")[2].isdigit() and name.count(":") == 1) for name in found):
        raise ValueError("names or addresses by comma are expected, without a scheme or port")
    return found


def places(value: str) -> tuple[str, ...]:
    """Read names or addresses of other servers by comma, with ``:port`` unless it is the usual one."""
    found = names(value.lower())
    if any(not re.fullmatch(r"(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?", name) for name in found):
        raise ValueError("hosts by comma are expected, each with :port or without, and no scheme")
    return found


#: What the reference system, its guides and its clients have for keys; nobody who reads them needs to guess.
_KNOWN_KEYS = ("change-me", "changeme", "change_me", "change-in-production", "super-secret", "internal-secret")


def internal_key(value: str) -> str | None:
    """Read a key that programs share, or None for none; one that could be guessed is refused."""
    if not value:
        return None
    if not re.fullmatch(r"[\x21-\x7e]{32,}", value):
        raise ValueError("at least 32 printable ASCII characters without spaces are expected")
    if len(set(value)) < 8 or any(known in value.lower() for known in _KNOWN_KEYS):
        raise ValueError("it can be guessed; make one with: python3 -c 'import secrets; print(secrets.token_hex(32))'")
    return value


def names(value: str) -> tuple[str, ...]:
    """Read names by comma; one that comes twice counts once."""
    return tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))


def keep(value: str) -> timedelta | None:
    """Read for how long something is kept; None is for ever."""
    text = value.strip().lower()
    if text in {"0", "forever"}:
        return None
    found = re.fullmatch(r"([0-9]{1,5})([dh])", text)
    if found is None or not int(found[1]):
        raise ValueError("days like 30d, hours like 12h, or forever is expected")
    return timedelta(days=int(found[1])) if found[2] == "d" else timedelta(hours=int(found[1]))


def share(value: str) -> float | None:
    """Read a part of a whole; None is ``off``."""
    if value.strip().lower() == "off":
        return None
    try:
        return number(0.1, 1)(value)
    except ValueError:
        raise ValueError("a number from 0.1 to 1, or off is expected") from None


def networks(value: str) -> tuple[IPNetwork, ...]:
    """Read addresses or networks by comma."""
    parts = [part.strip() for part in value.split(",") if part.strip()]
    return tuple(ipaddress.ip_network(part, strict=False) for part in parts)


LOG_LEVEL = one_of("debug", "info", "warning", "error")
MEBIBYTE = 1024 * 1024
