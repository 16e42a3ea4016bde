"""Anthropic's messages API, and servers that speak it (https://platform.claude.com/docs/en/api/messages)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codelab.agent.providers.anthropic_answer import AnthropicReader
from codelab.agent.providers.anthropic_request import encode_request
from codelab.agent.providers.http import StreamingClient

if TYPE_CHECKING:
    from codelab.agent.providers.base import ModelRequest

__all__ = ("AnthropicClient",)

#: The version of the wire format; newer members are ignored, as the API's policy of versions asks.
API_VERSION = "2023-06-01"


class AnthropicClient(StreamingClient):
    """Stream messages from one server.

    ``thinking`` is ``default`` (as the model does by itself), ``adaptive``, ``off``, or a budget in tokens. See
    ``StreamingClient`` for the timeouts.
    """

    name = "anthropic"
    path = "/messages"

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        *,
        thinking: str = "default",
        connect_timeout: float = 10.0,
        idle_timeout: float = 120.0,
    ) -> None:
        super().__init__(base_url, api_key, connect_timeout=connect_timeout, idle_timeout=idle_timeout)
        self._thinking = thinking
        self._ask_temperature = True

    def _headers(self) -> dict[str, str]:
        return {"anthropic-version": API_VERSION} | ({"x-api-key": self._api_key} if self._api_key else {})

    def _encode(self, request: ModelRequest) -> bytes:
        return encode_request(request, thinking=self._thinking, temperature=self._ask_temperature)

    def _new_reader(self) -> AnthropicReader:
        return AnthropicReader(self._secrets)

    def _adapt(self, status: int, said: bytes, sent: bytes) -> bool:
        # Newer models refuse a temperature.
        if status == 400 and b"temperature" in said and b'"temperature"' in sent:
            self._ask_temperature = False
            return True
        return False
