"""An audit trail that is open: its rows are chained under a key that comes from the key file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codelab.db.chain import Chain
from codelab.key_file import open_key_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from joserfc.jwk import OctKey

    from codelab.db import Database
    from codelab.db.chain import ChainKey, ChainTables

__all__ = ("ChainedTrail",)


class ChainedTrail:
    """Hold the chain of a module's trail; ``open`` comes first, once. ``derive`` makes its key of the key file's."""

    def __init__(
        self, database: Database, key_file: Path, tables: ChainTables, derive: Callable[[OctKey], ChainKey]
    ) -> None:
        self._database = database
        self._key_file = key_file
        self._tables = tables
        self._derive = derive
        self._chain: Chain | None = None

    async def open(self) -> None:
        """Read the key, or make it; begin the chain where there is none, or an epoch of it where the key is new.

        Raises:
            StartError: the key file can be neither read nor made.
        """
        chain = Chain(self._tables, self._derive(open_key_file(self._key_file)))
        await self._database.write(lambda tx: chain.open(tx.session))
        self._chain = chain

    @property
    def chain(self) -> Chain:
        """The chain over the rows."""
        if self._chain is None:
            raise RuntimeError("the audit trail is not open")
        return self._chain
