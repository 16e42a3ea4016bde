"""A server that may use MCP servers needs the extra ``codelab[mcp]``."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from tests.support.process import server_environ

if TYPE_CHECKING:
    from pathlib import Path

#: ``codelab`` in a Python where the SDK is not to be found, as where the extra is not installed.
WITHOUT = "import sys; sys.modules['mcp'] = None; from codelab.cli import main; sys.exit(main())"


def test_a_server_without_the_extra(tmp_path: Path) -> None:
    """It does not start where a host is allowed, and says what is missing; ``tests/deploy`` does it without."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, "serve", "--port", "0"],
        cwd=tmp_path,
        env=server_environ(tmp_path, None, AGENT_RUNTIME__MCP_ALLOWED_HOSTS="mcp.example.com"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    lines = [line for line in done.stderr.splitlines() if "codelab[mcp]" in line]
    assert done.returncode == 2, done.stderr
    assert lines == ["codelab: AGENT_RUNTIME__MCP_ALLOWED_HOSTS: needs the extra codelab[mcp], which is not installed."]
    assert "Traceback" not in done.stderr
