"""What the errors of the drivers mean, and how to say it in one line that holds no password."""

from __future__ import annotations

import sqlite3

import asyncpg
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from codelab.errors import Unavailable

__all__ = ("FAILURES", "is_full", "is_unavailable", "reason")

#: What the drivers raise when a database cannot be used.
FAILURES = (DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError, sqlite3.Error, OSError, TimeoutError)
#: The server is there and will not have us now: an operator revoked the role or a right, renamed the database.
_REFUSED = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.ObjectNotInPrerequisiteStateError,
)
_FULL = (asyncpg.DiskFullError,)
_UNAVAILABLE = (
    Unavailable,
    PoolTimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    *_REFUSED,
    ConnectionError,
    TimeoutError,
)


def is_unavailable(error: BaseException) -> bool:
    """Tell whether an error means that the database does not answer now, rather than that this program is wrong.

    Server away, role or right revoked, disk full, read-only, time-out of a lock or a statement: try again later.
    """
    if isinstance(error, _UNAVAILABLE):
        return True
    if not isinstance(error, DBAPIError):
        return False
    if error.orig is not None and isinstance(error.orig.__cause__, _REFUSED):
        return True
    return not isinstance(error, (IntegrityError, ProgrammingError, DataError))


def is_full(error: BaseException) -> bool:
    """Tell whether an error means that the disk of the database is full, or takes no writes for another reason."""
    cause: BaseException | None = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, sqlite3.Error):
        primary = getattr(cause, "sqlite_errorcode", 0) & 0xFF  # the others say in more detail what failed
        return primary in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
    return isinstance(cause.__cause__ if cause is not None and cause.__cause__ is not None else cause, _FULL)


def reason(error: BaseException) -> str:
    """Say in one line what the driver said.

    PostgreSQL's own messages name users and databases, never passwords; others are told by their kind only, since a
    driver may quote the DSN.
    """
    cause: BaseException = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    inner = cause.__cause__ if cause.__cause__ is not None else cause
    for known in (inner, cause):
        if isinstance(known, (asyncpg.PostgresError, sqlite3.Error)):
            return str(known).splitlines()[0].rstrip(".")
        if isinstance(known, TimeoutError):
            return "the connection timed out"
        if isinstance(known, OSError):
            return known.strerror or str(known).partition("\n")[0].rstrip(".") or "the connection failed"
        if isinstance(known, UnicodeError):
            return "the name of the host cannot be used"
    return f"the options of the URL are not understood ({type(inner).__name__})"
