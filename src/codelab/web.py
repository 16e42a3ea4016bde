"""What codelab changes in how requests are read."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
from litestar import Request

from codelab.errors import BadRequest

__all__ = ("CodelabRequest",)


class CodelabRequest(Request[Any, Any, Any]):
    r"""Read JSON bodies also when they escape lone surrogates (``"\ud800"``).

    msgspec refuses them as malformed. Read leniently, the field that holds them can be named, or a tool's output kept.
    """

    async def json(self) -> Any:
        """Return the body as JSON.

        Raises:
            BadRequest: it is no JSON.
        """
        body = await self.body()
        if not body:
            return None
        try:
            return msgspec.json.decode(body)
        except msgspec.DecodeError as refused:
            try:
                return json.loads(body, parse_constant=_refuse_constant, parse_float=_read_float)
            except ValueError:
                raise BadRequest(f"The body is not valid JSON: {refused}") from None
        except RecursionError:
            raise BadRequest("The body is nested too deeply.") from None


def _read_float(text: str) -> float:
    if math.isinf(number := float(text)):  # it would be stored as null
        raise ValueError(f"{text} is too large")
    return number


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
