"""Files of environment variables, as ``--env-file`` takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codelab.errors import StartError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ("read_env_file",)


def read_env_file(path: Path) -> dict[str, str]:
    """Read ``NAME=value`` lines; ``#`` begins a comment line, matching quotes around a value are dropped.

    Raises:
        StartError: the file cannot be read or a line has no ``=``.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise StartError(f"--env-file {path}: cannot be read: {reason}.") from None
    values: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        entry = line.strip().removeprefix("export ").strip()
        if not entry or entry.startswith("#"):
            continue
        name, equals, value = entry.partition("=")
        if not equals or not name.strip().isidentifier():
            raise StartError(f"--env-file {path}, line {number}: NAME=value is expected.")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        values[name.strip()] = value
    return values
