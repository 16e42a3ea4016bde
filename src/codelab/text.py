"""Text that both databases can hold, and JSON that survives them byte for byte.

PostgreSQL refuses U+0000, and UTF-8 has no lone surrogates. What a person sends with one of them is refused
(``reject_unstorable``), what a model or a tool says is kept with U+FFFD in its place (``scrub``), the same on both
databases.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import msgspec

from codelab.errors import BadRequest

__all__ = ("Input", "canonical_json", "decode_lenient", "load_lenient", "reject_unstorable", "scrub", "scrub_json")

#: Levels of arrays and objects that JSON from outside may have: whatever reads and writes it later recurses as well.
MAX_DEPTH = 100
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_TOO_DEEP = f"must not be nested deeper than {MAX_DEPTH} levels"
_ENCODER = msgspec.json.Encoder(order="sorted")


def scrub(text: str) -> str:
    """Replace U+0000 and lone surrogates by U+FFFD."""
    return _UNSTORABLE.sub("\ufffd", text) if _UNSTORABLE.search(text) else text


def scrub_json(value: Any, depth: int = MAX_DEPTH) -> Any:
    """Scrub every string of a JSON value, the keys included; raise ``ValueError`` when it is nested too deeply."""
    match value:
        case str():
            return scrub(value)
        case dict() | list() | tuple() if depth == 0:
            raise ValueError(_TOO_DEEP)
        case dict():
            return {scrub(str(key)): scrub_json(item, depth - 1) for key, item in value.items()}
        case list() | tuple():
            return [scrub_json(item, depth - 1) for item in value]
        case _:
            return value


def reject_unstorable(value: Any, field: str, depth: int = MAX_DEPTH) -> None:
    """Raise ``BadRequest`` naming the field when a string in the JSON value holds U+0000 or a lone surrogate.

    So does a value that is nested too deeply.
    """
    match value:
        case str():
            if found := _UNSTORABLE.search(value):
                raise BadRequest(f"{field}: must not contain U+{ord(found.group()):04X}", field=field)
        case dict() | list() | tuple() if depth == 0:
            name = re.split(r"[.\[]", field, maxsplit=1)[0]
            raise BadRequest(f"{name}: {_TOO_DEEP}", field=name)
        case dict():
            for key, item in value.items():
                reject_unstorable(key, field)
                reject_unstorable(item, f"{field}.{key}", depth - 1)
        case list() | tuple():
            for index, item in enumerate(value):
                reject_unstorable(item, f"{field}[{index}]", depth - 1)
        case _:
            return


def canonical_json(value: Any) -> str:
    """Write JSON in its one canonical form: keys sorted, no white space, UTF-8 unescaped.

    Digests and stored documents use it, so equal values have equal bytes.
    """
    return _ENCODER.encode(value).decode()


def decode_lenient(raw: bytes) -> Any:
    r"""Read JSON that a tool or a model wrote, also when it escapes lone surrogates, and scrub it.

    msgspec refuses ``"\ud800"``, so the standard library reads what msgspec does not. Raises ``ValueError``.
    """
    try:
        try:
            value = msgspec.json.decode(raw)
        except msgspec.DecodeError:
            value = load_lenient(raw)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    return scrub_json(value)


def load_lenient(raw: bytes) -> Any:
    """Read JSON as the standard library does, with lone surrogates but without its NaN and UTF-16.

    Raises ``ValueError``, or ``RecursionError`` when it is nested too deeply.
    """
    return json.loads(raw.decode("utf-8-sig"), parse_constant=_refuse_constant, parse_float=_read_float)


def _read_float(text: str) -> float:
    if math.isinf(number := float(text)):  # it would be stored as null
        raise ValueError(f"{text} is too large")
    return number


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


class Input(msgspec.Struct, kw_only=True):
    """Base of request bodies: text that cannot be stored is refused, naming its field.

    Unknown members are ignored, as RFC 6749 and the clients of the reference system expect.
    """

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            reject_unstorable(getattr(self, name), name)
