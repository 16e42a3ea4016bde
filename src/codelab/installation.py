"""An installation as an operator sees it: its modules, and where the data of each is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from codelab.agent.storage import STORAGE as AGENT
from codelab.agent.storage import describe as describe_agent
from codelab.auth.storage import STORAGE as AUTH
from codelab.auth.storage import describe as describe_auth
from codelab.db import Database, parse_url

if TYPE_CHECKING:
    from codelab.db import DatabaseUrl
    from codelab.settings import Settings
    from codelab.storage import ModuleStorage

__all__ = ("MODULES", "Installation", "Store")

#: In the order in which work on all of them is done and told.
MODULES: dict[str, ModuleStorage] = {"auth": AUTH, "agent": AGENT}


@dataclass(frozen=True)
class Store:
    """One module's data and where it is."""

    storage: ModuleStorage
    url: DatabaseUrl

    @property
    def module(self) -> str:
        """The name of the module."""
        return self.storage.schema.module

    def open(self) -> Database:
        """Make the database; nothing is opened yet. The caller starts and stops it."""
        return Database(self.url, self.storage.schema)


class Installation:
    """Name the stores of an installation.

    Raises:
        StartError: a database URL is not understood.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        urls = {"agent": settings.agent.db_url, "auth": settings.auth.db_url}
        storages = {
            "auth": describe_auth(settings.auth),
            "agent": describe_agent(settings.auth.key_encryption_key_file),
        }
        self.stores = {
            name: Store(storage, parse_url(urls[name], storage.schema.variable)) for name, storage in storages.items()
        }

    @property
    def people(self) -> Store:
        """The store of the module that knows the names of people."""
        (store,) = (store for store in self.stores.values() if store.storage.person_name is not None)
        return store

    @property
    def shared(self) -> bool:
        """Whether both modules use one database."""
        agent, auth = (self.stores[name].url for name in ("agent", "auth"))
        return (agent.path, agent.dsn) == (auth.path, auth.dsn)
