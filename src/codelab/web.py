"""What codelab changes in how requests are read."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request

from codelab.errors import BadRequest
from codelab.text import load_lenient, scrub

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
        except (msgspec.DecodeError, UnicodeDecodeError) as refused:
            try:
                value = load_lenient(body)
            except ValueError:
                raise BadRequest(f"The body is not valid JSON: {refused}") from None
            if isinstance(value, dict) and any(scrub(name) != name for name in value):
                raise BadRequest("The body has a member whose name is no text.") from None  # msgspec cannot look it up
            return value
        except RecursionError:
            raise BadRequest("The body is nested too deeply.") from None
