"""Which specialist should take a request: the reference system's keywords, on whole words.

Its substring search sent "explain the prefix" to the coder, because "prefix" holds "fix".
"""

from __future__ import annotations

import re

import msgspec

__all__ = ("Route", "route_by_keywords")

_GROUPS: tuple[tuple[str, str], ...] = (
    (
        "coder",
        r"creat\w*|writ\w*|implement\w*|fix\w*|code|refactor\w*|modif\w*|run|execute|add|install|build|make|mkdir",
    ),
    ("architect", r"design\w*|architectur\w*|plan\w*|spec\w*|blueprint"),
    ("debug", r"debug\w*|errors?|bugs?|problems?|why|investigat\w*|crash\w*"),
    ("ask", r"explain\w*|what|how|help|understand|read|show|list|search|find|summari[sz]e|tell"),
)
_PATTERNS = tuple((agent, re.compile(rf"\b(?:{words})\b", re.IGNORECASE)) for agent, words in _GROUPS)
#: A request that opens like a question asks, whatever else it mentions ("what does create_app do").
_QUESTION = re.compile(r"\s*(?:what|how does|how do|explain|who|where|which|read|show|summari[sz]e)\b", re.IGNORECASE)


class Route(msgspec.Struct, frozen=True):
    """Name the agent that should take a request, how sure that is (``low``, ``medium``, ``high``) and why."""

    agent: str
    confidence: str
    reason: str


def route_by_keywords(content: str) -> Route:
    """Choose a specialist by keywords; the coder where none is found."""
    if _QUESTION.match(content):
        return Route("ask", "low", "The request opens like a question")
    for agent, pattern in _PATTERNS:
        if found := pattern.search(content):
            return Route(agent, "low", f"The request says {found.group().lower()!r}")
    return Route("coder", "low", "No keyword was found")
