"""``codelab user``, ``client`` and ``keys``: who may log in, with what, and what proves it. A file for each."""

from __future__ import annotations
