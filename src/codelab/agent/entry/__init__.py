"""Who is calling without an ``Authorization`` header: by a ticket, by the internal key, or as one who has none."""

from __future__ import annotations

from codelab.agent.entry.internal import InternalKey
from codelab.agent.entry.legacy import LEGACY, MADE, Acquaintances
from codelab.agent.entry.middleware import ENTRY, Entry
from codelab.agent.entry.tickets import TICKET_SECONDS, Tickets

__all__ = ("ENTRY", "LEGACY", "MADE", "TICKET_SECONDS", "Acquaintances", "Entry", "InternalKey", "Tickets")
