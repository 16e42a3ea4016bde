"""Read the Dockerfile, so that the tests follow the file."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ("ROOT", "Instruction", "argv", "ignored", "read_stages")

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Instruction:
    """One instruction: its keyword in capitals and all that follows it, on one line."""

    keyword: str
    value: str


def read_stages() -> list[list[Instruction]]:
    """Return the instructions of each stage; a stage begins with its FROM."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if line and not line.startswith("#"))
    stages: list[list[Instruction]] = []
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        keyword, value = line.split(None, 1)
        if keyword == "FROM":
            stages.append([])
        stages[-1].append(Instruction(keyword, value))
    return stages


def argv(value: str) -> list[str]:
    """Return the arguments of an instruction in exec form."""
    arguments = json.loads(value[value.index("[") :])
    assert isinstance(arguments, list)
    return [str(argument) for argument in arguments]


def ignored(name: str) -> bool:
    """Tell whether .dockerignore keeps a top-level name out of the build context; the last match counts."""
    result = False
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if line.removeprefix("!") in {"*", name}:
            result = not line.startswith("!")
    return result
