"""SQL of devices that wait to be let in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import func, select, update

from codelab.auth.repository.common import insert_if_absent
from codelab.auth.repository.tables import clients, devices, users

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = (
    "DeviceRecord",
    "WaitingDevice",
    "count_waiting",
    "decide",
    "find_device",
    "find_waiting",
    "insert_device",
    "note_question",
    "use_device",
)


class DeviceRecord(NamedTuple):
    """A device as it asks whether it was let in."""

    id: str
    state: str
    user_id: str | None
    client_id: str
    scope: str
    resource: str | None
    auth_time: datetime | None
    interval: int
    asked_at: datetime | None
    expires_at: datetime


class WaitingDevice(NamedTuple):
    """A device as the person sees it who decides."""

    id: str
    user_code: str
    client_id: str
    scope: str
    ip_address: str | None
    user_agent: str | None
    client_name: str


_DEVICE = tuple(devices.c[name] for name in DeviceRecord._fields)
_WAITING = (*(devices.c[name] for name in WaitingDevice._fields[:-1]), clients.c.name)


async def insert_device(session: AsyncSession, **values: Any) -> bool:
    """Insert a device unless its user code is taken; tell whether it was inserted."""
    return await insert_if_absent(session, devices, values)


async def count_waiting(session: AsyncSession, ip_address: str | None, at: datetime, most: int) -> int:
    """Count the devices that wait at an address, up to a number."""
    waiting = (
        select(devices.c.id)
        .where(devices.c.expires_at > at, devices.c.state == "pending", devices.c.ip_address == ip_address)
        .limit(most)
    )
    return int((await session.execute(select(func.count()).select_from(waiting.subquery()))).scalar_one())


async def find_device(session: AsyncSession, device_code_hash: str) -> DeviceRecord | None:
    """Find a device by the hash of its code."""
    statement = select(*_DEVICE).where(devices.c.device_code_hash == device_code_hash)
    row = (await session.execute(statement)).one_or_none()
    return DeviceRecord(*row) if row else None


async def find_waiting(session: AsyncSession, user_code: str, at: datetime) -> WaitingDevice | None:
    """Find the device that waits with a user code."""
    statement = (
        select(*_WAITING)
        .select_from(devices.join(clients, clients.c.client_id == devices.c.client_id))
        .where(
            devices.c.user_code == user_code,
            devices.c.state == "pending",
            devices.c.expires_at > at,
            clients.c.is_active,
        )
    )
    row = (await session.execute(statement)).one_or_none()
    return WaitingDevice(*row) if row else None


async def note_question(session: AsyncSession, device_id: str, at: datetime, interval: int) -> None:
    """Note that a device asked, and how long it has to wait now."""
    asked = update(devices).where(devices.c.id == device_id).values(asked_at=at, interval=interval)
    await session.execute(asked)


async def decide(
    session: AsyncSession, device_id: str, state: str, user_id: str, scope: str, auth_time: datetime, at: datetime
) -> bool:
    """Keep a decision: of all that are made, the first counts and gets True."""
    statement = (
        update(devices)
        .where(devices.c.id == device_id, devices.c.state == "pending", devices.c.expires_at > at)
        .values(state=state, user_id=user_id, scope=scope, auth_time=auth_time)
        .returning(devices.c.id)
    )
    return (await session.execute(statement)).one_or_none() is not None


async def use_device(session: AsyncSession, device_id: str) -> bool:
    """Use up a device code that was let in: of all who try, one gets True. False too when its user was disabled."""
    active = select(users.c.id).where(users.c.id == devices.c.user_id, users.c.is_active).exists()
    statement = (
        update(devices)
        .where(devices.c.id == device_id, devices.c.state == "approved", active)
        .values(state="used")
        .returning(devices.c.id)
    )
    return (await session.execute(statement)).one_or_none() is not None
