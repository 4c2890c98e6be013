"""A connection of the driver of MySQL, with linkly's literals and values and nothing else of it."""

import asyncio
import importlib
import secrets
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from linkly_workers.database.mysql.codecs import DECODERS
from linkly_workers.database.mysql.parameters import bound
from linkly_workers.database.mysql.statement import statement_of
from support.mariadb_server import own_database

T = TypeVar("T")

MODE = "STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
"""The `sql_mode` of a session, as linkly has it."""


class Session:
    """A connection on a loop of its own, so that tests of many examples ask it without one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: Any) -> None:
        self._loop, self._connection = loop, connection
        self._mode = ""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something that asks this session."""
        return self._loop.run_until_complete(work)

    def text(self, text: str, mode: str = MODE) -> tuple[tuple[Any, ...], ...]:
        """Run a text as it is and return its rows."""
        if mode != self._mode:
            self._mode = mode
            self.text(f"SET NAMES utf8mb4, time_zone = '+00:00', sql_mode = '{mode}'", mode)
        return self.run(self._rows(text))

    def rows(self, sql: str, *values: object, mode: str = MODE) -> tuple[tuple[Any, ...], ...]:
        """Run a statement with values and return its rows."""
        return self.text(bound(statement_of(sql), list(values)), mode)

    def value(self, sql: str, *values: object, mode: str = MODE) -> Any:
        """Run a statement with values and return the one value that it answers."""
        ((found,),) = self.rows(sql, *values, mode=mode)
        return found

    async def asked(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement with values, on the loop of this session."""
        return list(await self._rows(bound(statement_of(sql), list(values))))

    @property
    def is_in_transaction(self) -> bool:
        """Whether a transaction was open behind the last text."""
        return bool(self._connection.get_transaction_status())

    def fields(self, text: str) -> list[Any]:
        """Return what the driver says of the columns of a text."""
        return self.run(self._fields(text))

    def placeholders(self, text: str) -> int:
        """Return how many placeholders the server sees in a text; raises `refusal` where it cannot compile it."""
        return self.run(self._placeholders(text))

    @property
    def refusal(self) -> type[Exception]:
        """What the driver raises where the server refuses a text."""
        return importlib.import_module("asyncmy.errors").MySQLError

    async def _placeholders(self, text: str) -> int:
        async with await self._connection.prepare(text) as statement:
            return int(statement.parameter_count)

    async def _rows(self, text: str) -> tuple[tuple[Any, ...], ...]:
        async with self._connection.cursor() as cursor:
            await cursor.execute(text)
            return tuple(await cursor.fetchall())

    async def _fields(self, text: str) -> list[Any]:
        async with await self._connection.prepare(text) as statement:
            return list((await statement.execute()).fields)


@contextmanager
def driver_session(server: str) -> Iterator[Session]:
    """Yield a session in a database of its own on a server, which is given by its url."""
    loop = asyncio.new_event_loop()
    database = own_database(server, f"test_{secrets.token_hex(6)}")
    parts = urlsplit(loop.run_until_complete(database.__aenter__()))
    connection = loop.run_until_complete(
        importlib.import_module("asyncmy").connect(
            host=parts.hostname,
            port=parts.port or 3306,
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            database=parts.path[1:],
            charset="utf8mb4",
            conv=DECODERS,
            autocommit=True,
        )
    )
    try:
        yield Session(loop, connection)
    finally:
        loop.run_until_complete(connection.ensure_closed())
        loop.run_until_complete(database.__aexit__(None, None, None))
        loop.close()
