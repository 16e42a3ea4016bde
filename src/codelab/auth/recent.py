"""A bounded memory of what was used last."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Generic, TypeVar

__all__ = ("Recent",)

V = TypeVar("V")

_MAX_ENTRIES = 10_000


class Recent(Generic[V]):
    """The values used last, at most ``_MAX_ENTRIES``."""

    def __init__(self) -> None:
        self._values: OrderedDict[Any, V] = OrderedDict()

    def get(self, key: Any) -> V | None:
        """Return the value of a key, None when it is not known."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: Any, value: V) -> None:
        """Remember a value."""
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > _MAX_ENTRIES:
            self._values.popitem(last=False)

    def drop(self, key: Any) -> None:
        """Forget a value."""
        self._values.pop(key, None)
