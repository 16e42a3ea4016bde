"""The face of the reference system: its frames and its runtime's paths, over the services that all clients use.

Thin: it renders the one event log into the reference's chunks and turns the reference's messages into the same
commands. ``docs/reference-clients.md`` describes it for the people who run such clients.
"""

from __future__ import annotations

from codelab.agent.reference.face import ReferenceFace

__all__ = ("ReferenceFace",)
