"""Which errors of a driver mean that the database does not answer now, rather than that this program is wrong."""

from __future__ import annotations

import asyncpg
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

__all__ = ("is_unavailable",)


def is_unavailable(error: BaseException) -> bool:
    """Tell whether an error means: try again later (server away, disk full, read-only, lock or statement time-out)."""
    if isinstance(error, (PoolTimeoutError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError)):
        return True
    if isinstance(error, (asyncpg.InsufficientResourcesError, ConnectionError, TimeoutError)):
        return True
    return isinstance(error, DBAPIError) and not isinstance(error, (IntegrityError, ProgrammingError, DataError))
