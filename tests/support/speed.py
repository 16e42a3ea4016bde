"""What makes thousands of applications in one process cheaper, and changes nothing that a test can see."""

from __future__ import annotations

import gc
from typing import Any

from litestar.utils.signature import ParsedSignature

__all__ = ("collect_less", "remember_signatures")


def collect_less() -> None:
    """Take what was imported out of the garbage collector, and let it look through the rest less often.

    It else looks through all of it for every other test, and several times while one application is made.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def remember_signatures() -> None:
    """Let Litestar parse the signature of each handler once for all applications of the process.

    That is a third of what an application costs. What is parsed depends on its code, its defaults and the names that
    annotations may use, and cannot be changed.
    """
    parse = ParsedSignature.from_fn.__func__  # type: ignore[attr-defined]  # a bound classmethod has it
    known: dict[Any, tuple[ParsedSignature, Any]] = {}

    def from_fn(cls: type[ParsedSignature], fn: Any, namespace: dict[str, Any]) -> ParsedSignature:
        code = getattr(fn, "__code__", None)
        if code is None or hasattr(fn, "__wrapped__"):
            parsed: ParsedSignature = parse(cls, fn, namespace)
            return parsed
        values = (*(fn.__defaults__ or ()), *(fn.__kwdefaults__ or {}).values(), *namespace.values())
        key = (code, *namespace, *map(id, values))
        if key not in known:
            known[key] = parse(cls, fn, namespace), values  # who is kept keeps its id
        return known[key][0]

    ParsedSignature.from_fn = classmethod(from_fn)  # type: ignore[method-assign,assignment]  # on purpose
