"""What a module's database consists of: its tables, and the migrations that lead to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import MetaData

__all__ = ("ModuleSchema",)


@dataclass(frozen=True)
class ModuleSchema:
    """Describe the tables of one module: ``variable`` is the environment variable with their URL."""

    module: str
    variable: str
    metadata: MetaData
    migrations: Path

    @property
    def version_table(self) -> str:
        """The table with the revision that Alembic brought the others to."""
        return f"{self.module}_alembic_version"

    @property
    def unfinished_table(self) -> str:
        """The table that is there while somebody fills the others; see ``codelab.db.unfinished``."""
        return f"{self.module}_unfinished"
