"""A checkout to try dev.py in, without installing anything."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ("FILES", "ROOT", "Checkout")

ROOT = Path(__file__).resolve().parents[2]
FILES = ("pyproject.toml", "requirements.lock", "requirements-mcp.lock", "requirements-dev.lock")


class Checkout:
    """A copy of dev.py among small stand-ins for all that it reads and starts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bin = root / ".venv" / "bin"
        self.tools = root / "tools"
        self.log = root / "calls"
        self.tools.mkdir()
        shutil.copy(ROOT / "dev.py", root)
        for name in FILES:
            (root / name).write_text(name, encoding="utf-8")

    def module(self) -> ModuleType:
        """Import the copy; each call gives a fresh module."""
        spec = importlib.util.spec_from_file_location("dev_under_test", self.root / "dev.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def program(self, path: Path, body: str) -> None:
        """Write an executable shell script."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        path.chmod(0o755)

    def installed(self, kind: str) -> None:
        """Make `.venv` look complete, with programs that tell how they were called."""
        for name in ("codelab", "python", "ruff", "mypy", "lint-imports"):
            self.program(self.bin / name, f'echo {name} "$@"')
        (self.root / ".venv" / ".stamp").write_text(self.module().stamp_of(kind), encoding="utf-8")

    def uv(self, body: str = "") -> None:
        """Put a uv on PATH that writes its calls down and makes `.venv` run this Python."""
        make = f'mkdir -p .venv/bin; ln -sf "{sys.executable}" .venv/bin/python'
        self.program(self.tools / "uv", f'echo "$@" >> "{self.log}"\n{body}\nif [ "$1" = venv ]; then {make}; fi')

    def calls(self) -> list[str]:
        """Return what uv was asked for since the last question."""
        lines = self.log.read_text(encoding="utf-8").splitlines()
        self.log.unlink()
        return lines

    def start(self, *arguments: str, prelude: str = "", cwd: Path | None = None) -> subprocess.Popen[str]:
        """Start dev.py with nothing on PATH but a shell's own programs and the checkout's tools."""
        program = [str(self.root / "dev.py"), *arguments]
        if prelude:
            run = "runpy.run_path(sys.argv[0], run_name='__main__')"
            program = ["-c", f"{prelude}; import runpy, sys; sys.argv = {program!r}; {run}"]
        return subprocess.Popen(
            [sys.executable, *program],
            cwd=cwd or self.root,
            env={**os.environ, "PATH": f"{self.tools}:/usr/bin:/bin"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, prelude: str = "", cwd: Path | None = None) -> tuple[int, str, str]:
        """Run dev.py to its end: exit code, output, errors."""
        with self.start(*arguments, prelude=prelude, cwd=cwd) as process:
            out, err = process.communicate(timeout=60)
        return process.returncode, out, err
