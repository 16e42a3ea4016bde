"""Run ``python -m codelab``."""

from __future__ import annotations

from codelab.cli import main

main()
