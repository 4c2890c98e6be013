"""The open databases of the worker, by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from linkly_workers.database.backend import Database
from linkly_workers.database.backends import Integers, OneDatabase
from linkly_workers.database.errors import MissingDatabase, UnknownDatabase


class Databases:
    """The database of a request is the one of its `db`; without that the only one, or the one called primary."""

    def __init__(self, settings: Mapping[str, OneDatabase]) -> None:
        self._settings = settings
        self._by_name: dict[str, Database[Any]] = {}
        self._by_request: dict[str | None, Database[Any] | None] = {}

    def __iter__(self) -> Iterator[Database[Any]]:
        return iter(self._by_name.values())

    def opened(self, databases: Iterable[Database[Any]]) -> None:
        """Serve these from now on."""
        self._by_name = {each.name: each for each in databases}
        default = next(iter(self._by_name)) if len(self._by_name) == 1 else "primary"
        self._by_request = {None: self._by_name.get(default)}
        self._by_request.update(self._by_name)

    def integers(self, name: str) -> Integers:
        """Return how the config wants the 64-bit integers of a database to be answered."""
        return self._settings[name].integers

    def find(self, name: str | None) -> Database[Any]:
        """Return the database that a request means.

        Raises:
            UnknownDatabase: There is none of this name.
            MissingDatabase: The request names none, and there are several.
        """
        database = self._by_request.get(name)
        if database is not None:
            return database
        available = list(self._by_name)
        if name is None:
            raise MissingDatabase(
                f"say which database with `db`: {', '.join(available)}", details={"available": available}
            )
        raise UnknownDatabase(
            f"there is no database `{name}`; configured: {', '.join(available)}",
            details={"db": name, "available": available},
        )
