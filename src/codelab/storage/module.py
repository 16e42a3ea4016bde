"""What a module tells about its tables, so that they can be moved, checked and cleaned without knowing them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

    from codelab.db.chain import ChainKey, ChainTables
    from codelab.db.schema import ModuleSchema

__all__ = ("Check", "Finding", "ModuleStorage", "Root", "TrailChain")


class Root(NamedTuple):
    """Where a person's or a session's rows begin: a table and its column; the rest follows foreign keys."""

    table: str
    column: str


class TrailChain(NamedTuple):
    """The chain over a module's audit trail; ``read_key`` gives its key, None where there is none."""

    name: str
    tables: ChainTables
    read_key: Callable[[], ChainKey | None]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a check found.

    A ``fault`` makes the check fail, a ``note`` does not. ``rows`` names some of the rows, never their content.
    """

    check: str
    severity: Literal["fault", "note"]
    detail: str
    rows: tuple[str, ...] = ()
    repairable: bool = False


@dataclass(frozen=True)
class Check:
    """A rule that the rows of a module keep.

    ``find`` reads; ``repair``, where there is one, runs inside a transaction that writes, mends what ``find`` calls
    repairable, and returns a sentence for each thing it did.
    """

    name: str
    find: Callable[[AsyncConnection], Awaitable[list[Finding]]]
    repair: Callable[[AsyncConnection], Awaitable[list[str]]] | None = None


@dataclass(frozen=True)
class ModuleStorage:
    """Describe a module's data.

    ``person_name`` is where the names of people are, in the module that knows them; ``person_roots`` hold the id of a
    user, ``session_root`` the id of a session; what belongs to a row of them is found by the foreign keys that lead to
    it. ``trail`` are rows that tell of people and outlive them: they are in no archive of one person, and of a person
    who is erased ``erase_trail`` empties them, adds one that says so, and returns how many it emptied.
    """

    schema: ModuleSchema
    person_name: Root | None = None
    person_roots: tuple[Root, ...] = ()
    session_root: Root | None = None
    trail: Root | None = None
    erase_trail: Callable[[AsyncSession, str], Awaitable[int]] | None = None
    chain: TrailChain | None = None
    checks: tuple[Check, ...] = ()
