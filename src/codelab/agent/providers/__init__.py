"""Models behind one small protocol; ``create_client`` picks the adapter."""

from __future__ import annotations

from codelab.agent.providers.base import (
    ChatMessage,
    Delta,
    Finish,
    ModelClient,
    ModelError,
    ModelRequest,
    TextDelta,
    ToolCall,
    ToolCallBuffer,
    ToolCallDelta,
    ToolSpec,
    Usage,
)

__all__ = (
    "ChatMessage",
    "Delta",
    "Finish",
    "ModelClient",
    "ModelError",
    "ModelRequest",
    "TextDelta",
    "ToolCall",
    "ToolCallBuffer",
    "ToolCallDelta",
    "ToolSpec",
    "Usage",
    "create_client",
)


def create_client(
    url: str | None, api_key: str | None, *, connect_timeout: float = 10.0, idle_timeout: float = 120.0
) -> ModelClient:
    """Return the client of the OpenAI-compatible server at ``url``, or the offline ``fake-llm`` without one.

    The timeouts are in seconds. Raises ``ValueError`` for a bad address or key.
    """
    if not url:
        from codelab.agent.providers.fake import FakeClient

        return FakeClient()
    from codelab.agent.providers.openai import OpenAIClient

    return OpenAIClient(url, api_key, connect_timeout=connect_timeout, idle_timeout=idle_timeout)
