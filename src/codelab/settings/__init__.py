"""Every environment variable that codelab reads, read once into frozen objects.

Nothing else reads ``os.environ``. ``docs/configuration.md`` lists the same variables; a test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self, TypeVar

from codelab.errors import StartError
from codelab.settings.agent import AgentSettings
from codelab.settings.auth import AuthSettings
from codelab.settings.env_file import read_env_file
from codelab.settings.server import ServerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from codelab.settings.variables import Variable

__all__ = ("AgentSettings", "AuthSettings", "ServerSettings", "Settings", "read_env_file", "variables")

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """Hold all settings of one process."""

    agent: AgentSettings = field(default_factory=AgentSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    server: ServerSettings = field(default_factory=ServerSettings)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings; an empty value counts as unset.

        Raises:
            StartError: a value cannot be parsed; the line names the variable, and never shows a secret.
        """
        settings = cls(_read(AgentSettings, environ), _read(AuthSettings, environ), _read(ServerSettings, environ))
        if settings.agent.llm_proxy_url and not settings.agent.llm_model:
            raise StartError(
                "AGENT_RUNTIME__LLM_MODEL is not set: AGENT_RUNTIME__LLM_PROXY_URL needs the name of a model."
            )
        if settings.agent.llm_provider != "openai" and not settings.agent.llm_proxy_url:
            raise StartError(
                "AGENT_RUNTIME__LLM_PROXY_URL is not set: AGENT_RUNTIME__LLM_PROVIDER needs the address of a server, "
                "such as https://api.anthropic.com."
            )
        return settings


def _read(kind: type[T], environ: Mapping[str, str]) -> T:
    values: dict[str, Any] = {}
    for name, variable in _described(kind):
        raw = environ.get(variable.name, "")
        if not raw:
            continue
        try:
            values[name] = variable.parse(raw)
        except ValueError as error:
            shown = "" if variable.secret else f" {raw!r}"
            raise StartError(f"{variable.name}: cannot use the value{shown}: {error}.") from None
    return kind(**values)


def _described(kind: type[Any]) -> Iterator[tuple[str, Variable]]:
    for item in fields(kind):
        yield item.name, item.metadata["variable"]


def variables() -> tuple[Variable, ...]:
    """List every environment variable that codelab reads."""
    kinds = (AgentSettings, AuthSettings, ServerSettings)
    return tuple(variable for kind in kinds for _, variable in _described(kind))
