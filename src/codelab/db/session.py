"""What repositories use of SQLAlchemy's ``AsyncSession``, without its cost: Core statements on one connection."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Connection, Executable, Result
    from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ("AwaitingSession", "CoreSession", "InlineSession")


class CoreSession(ABC):
    """Run statements; nothing of what they return is tracked.

    ``info`` is for whoever made the session.
    """

    __slots__ = ("info",)

    def __init__(self, info: dict[Any, Any] | None = None) -> None:
        self.info: dict[Any, Any] = {} if info is None else info

    @abstractmethod
    async def execute(self, statement: Executable, params: Any = None) -> Result[Any]:
        """Run a statement; all its rows are here when it returns."""

    async def scalar(self, statement: Executable, params: Any = None) -> Any:
        """Run a statement and return the first column of its first row, None where there is none."""
        return (await self.execute(statement, params)).scalar()

    @abstractmethod
    def get_bind(self) -> Connection | AsyncConnection:
        """Return the connection, which knows the dialect."""


class InlineSession(CoreSession):
    """Run statements on a connection that needs no ``await``, so they have run when they are awaited."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection, info: dict[Any, Any] | None = None) -> None:
        super().__init__(info)
        self._connection = connection

    async def execute(self, statement: Executable, params: Any = None) -> Result[Any]:
        """Run a statement."""
        return self._connection.execute(statement, params)

    def get_bind(self) -> Connection:
        """Return the connection."""
        return self._connection


class AwaitingSession(CoreSession):
    """Run statements on a connection whose answers are waited for."""

    __slots__ = ("_connection",)

    def __init__(self, connection: AsyncConnection) -> None:
        super().__init__()
        self._connection = connection

    async def execute(self, statement: Executable, params: Any = None) -> Result[Any]:
        """Run a statement and wait for its rows."""
        return await self._connection.execute(statement, params)

    def get_bind(self) -> AsyncConnection:
        """Return the connection."""
        return self._connection
