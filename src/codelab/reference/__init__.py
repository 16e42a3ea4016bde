"""The reference system as this program meets it: its databases, its rules, its mistakes. Knows no module of ours.

``source`` opens a database of it without touching it, ``accounts`` and ``conversations`` make records of what is in
there (``codelab.import_records``), ``transcript`` mends broken conversations, ``keys`` reads its key files.
"""

from __future__ import annotations

from codelab.reference.accounts import Accounts
from codelab.reference.conversations import Conversations
from codelab.reference.keys import read_token_key
from codelab.reference.source import Source, open_source

__all__ = ("Accounts", "Conversations", "Source", "open_source", "read_token_key")
