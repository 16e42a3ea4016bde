"""The settings of the models that answer, and of what they are sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from codelab.settings.variables import names, number, one_of, optional, optional_path, share, variable, whole

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ("ModelSettings",)


def _thinking(value: str) -> str:
    """Read how Anthropic's models think."""
    if value.lower() in {"default", "adaptive", "off"}:
        return value.lower()
    try:
        return str(whole(1024, 1_000_000)(value))
    except ValueError:
        raise ValueError("default, adaptive, off or a number of tokens from 1024 is expected") from None


def _model(value: str) -> str | None:
    """Read the name of a model, as long as the database keeps one."""
    if len(value) > 255:
        raise ValueError("a name of at most 255 characters is expected")
    return value or None


def _models(value: str) -> tuple[str, ...]:
    """Read names of models by comma."""
    return tuple(model for name in names(value) if (model := _model(name)))


@dataclass(frozen=True)
class ModelSettings:
    """Where models are, which there are, and how much of a session they are sent."""

    llm_provider: str = variable(
        "AGENT_RUNTIME__LLM_PROVIDER",
        "openai",
        "What the model server speaks: `openai` (chat completions) or `anthropic` (messages).",
        one_of("openai", "anthropic"),
    )
    llm_proxy_url: str | None = variable(
        "AGENT_RUNTIME__LLM_PROXY_URL",
        "",
        "Base URL of the model server, with or without `/v1`. Unset: the offline `fake-llm`.",
        optional,
        secret=True,
    )
    llm_api_key: str | None = variable(
        "AGENT_RUNTIME__LLM_API_KEY", "", "Key sent to that server.", optional, secret=True
    )
    llm_model: str | None = variable(
        "AGENT_RUNTIME__LLM_MODEL", "", "Model to ask for; required with `AGENT_RUNTIME__LLM_PROXY_URL`.", _model
    )
    llm_models: tuple[str, ...] = variable(
        "AGENT_RUNTIME__LLM_MODELS",
        "",
        "Models of the same server, by comma, that sessions may choose beside that one. Unset: the fallback models.",
        _models,
    )
    llm_idle_timeout: float = variable(
        "AGENT_RUNTIME__LLM_IDLE_TIMEOUT",
        "120",
        "Seconds without a byte from the model server after which the turn fails.",
        number(0.1, 3600),
    )
    llm_fallback_models: tuple[str, ...] = variable(
        "AGENT_RUNTIME__LLM_FALLBACK_MODELS",
        "",
        "Models of the same server, by comma, that are asked in order when the first is not to be had.",
        _models,
    )
    llm_retries: int = variable(
        "AGENT_RUNTIME__LLM_RETRIES",
        "4",
        "How often each model is asked again when the server is busy or not there.",
        whole(0, 100),
    )
    llm_retry_seconds: float = variable(
        "AGENT_RUNTIME__LLM_RETRY_SECONDS",
        "120",
        "Seconds after which one model call is not made again, the pauses that the server asks for included.",
        number(0, 3600),
    )
    llm_thinking: str = variable(
        "AGENT_RUNTIME__LLM_THINKING",
        "default",
        "How Anthropic's models think: `default` (as the model is made), `adaptive`, `off`, or a budget in tokens.",
        _thinking,
    )
    llm_max_output_tokens: int = variable(
        "AGENT_RUNTIME__LLM_MAX_OUTPUT_TOKENS",
        "16384",
        "Longest answer that is asked for, in tokens, where the provider demands a limit (Anthropic).",
        whole(256, 1_000_000),
    )
    llm_context_tokens: int = variable(
        "AGENT_RUNTIME__LLM_CONTEXT_TOKENS",
        "128000",
        "Tokens that fit into the model's window, the answer included.",
        whole(4_000, 100_000_000),
    )
    summarise_at: float | None = variable(
        "AGENT_RUNTIME__SUMMARISE_AT",
        "0.7",
        "Part of that window that messages may fill before the older ones are summarised; `off`: they are left out.",
        share,
    )
    prices_file: Path | None = variable(
        "AGENT_RUNTIME__PRICES_FILE",
        "",
        "File (TOML) with prices of models that go before those that codelab ships with.",
        optional_path,
    )
    max_tool_output_chars: int = variable(
        "AGENT_RUNTIME__MAX_TOOL_OUTPUT_CHARS",
        "32000",
        "Characters of a tool's output that a model is shown; what is left out of its middle leaves a mark.",
        whole(100, 100_000_000),
    )
