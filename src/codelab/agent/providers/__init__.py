"""Models behind one small protocol; ``create_client`` picks the adapter."""

from __future__ import annotations

from codelab.agent.providers.base import (
    ChatMessage,
    Delta,
    Finish,
    Image,
    ModelClient,
    ModelError,
    ModelRequest,
    ReasoningDelta,
    ReasoningPart,
    TextDelta,
    ToolCall,
    ToolCallBuffer,
    ToolCallDelta,
    ToolSpec,
    Usage,
)
from codelab.agent.providers.prices import Price, Prices, load_prices
from codelab.agent.providers.reasoning import ReasoningBuffer

__all__ = (
    "ChatMessage",
    "Delta",
    "Finish",
    "Image",
    "ModelClient",
    "ModelError",
    "ModelRequest",
    "Price",
    "Prices",
    "ReasoningBuffer",
    "ReasoningDelta",
    "ReasoningPart",
    "TextDelta",
    "ToolCall",
    "ToolCallBuffer",
    "ToolCallDelta",
    "ToolSpec",
    "Usage",
    "create_client",
    "load_prices",
)


def create_client(
    url: str | None,
    api_key: str | None,
    *,
    provider: str = "openai",
    thinking: str = "default",
    connect_timeout: float = 10.0,
    idle_timeout: float = 120.0,
) -> ModelClient:
    """Return the client of the server at ``url``, or the offline ``fake-llm`` without one.

    ``provider`` is ``openai`` (any compatible server) or ``anthropic``, which ``thinking`` belongs to. The timeouts are
    in seconds. Raises ``ValueError`` for a bad address or key.
    """
    if not url:
        from codelab.agent.providers.fake import FakeClient

        return FakeClient()
    if provider == "anthropic":
        from codelab.agent.providers.anthropic import AnthropicClient

        return AnthropicClient(
            url, api_key, thinking=thinking, connect_timeout=connect_timeout, idle_timeout=idle_timeout
        )
    from codelab.agent.providers.openai import OpenAIClient

    return OpenAIClient(url, api_key, connect_timeout=connect_timeout, idle_timeout=idle_timeout)
