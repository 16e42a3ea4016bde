"""What an operator does with whole databases: look, check, move, keep, take back. Knows no module and no domain word.

Everything is driven by the tables of a module's own metadata; what only the module knows it says in a
``ModuleStorage``.
"""

from __future__ import annotations

from codelab.storage.module import Check, Finding, ModuleStorage, Root, TrailChain

__all__ = ("Check", "Finding", "ModuleStorage", "Root", "TrailChain")
