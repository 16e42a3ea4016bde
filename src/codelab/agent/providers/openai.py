"""Every server that speaks OpenAI's chat completions: OpenAI, Azure, OpenRouter, vLLM, Ollama, LM Studio, LiteLLM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codelab.agent.providers.http import StreamingClient, build_endpoint
from codelab.agent.providers.openai_answer import AnswerReader
from codelab.agent.providers.openai_request import encode_request

if TYPE_CHECKING:
    from codelab.agent.providers.base import ModelRequest

__all__ = ("OpenAIClient", "build_endpoint")


class OpenAIClient(StreamingClient):
    """Stream chat completions from one server; see ``StreamingClient`` for the timeouts."""

    name = "openai"
    path = "/chat/completions"
    _ask_usage = True

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._api_key}"} if self._api_key else {}

    def _encode(self, request: ModelRequest) -> bytes:
        return encode_request(request, include_usage=self._ask_usage)

    def _new_reader(self) -> AnswerReader:
        return AnswerReader(self._secrets)

    def _adapt(self, status: int, said: bytes, sent: bytes) -> bool:
        if status in {400, 422} and b"stream_options" in said and b'"stream_options"' in sent:
            self._ask_usage = False
            return True
        return False
