"""One MySQL or MariaDB database."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from linkly.clock import time_limit
from linkly_workers._sql.tokens import MYSQL
from linkly_workers.database._server.database import ServerDatabase
from linkly_workers.database._server.result import Result
from linkly_workers.database._server.transaction import InteractiveTransaction
from linkly_workers.database.backend import Committed, Conclude, Expected, Take
from linkly_workers.database.backends import Opening
from linkly_workers.database.errors import InvalidParam, StatementWrites
from linkly_workers.database.mysql import schema
from linkly_workers.database.mysql.address import address_of
from linkly_workers.database.mysql.connection import Connection
from linkly_workers.database.mysql.connector import Connector
from linkly_workers.database.mysql.copy_side import MysqlSide
from linkly_workers.database.mysql.errors import DRIVER, READ_ONLY_TRANSACTION
from linkly_workers.database.mysql.statement import Statement, statement_of

LONGEST_LOCK_TIMEOUT_S = 31_536_000

_LOCK = f"SELECT GET_LOCK(CONCAT('linkly ', SHA1(DATABASE())), {LONGEST_LOCK_TIMEOUT_S})"
"""Names of locks are those of the whole server, and have 64 characters at most."""


class MysqlDatabase(ServerDatabase[Connection, Statement, Result]):
    """One database of one server."""

    dialect = MYSQL

    def __init__(self, opening: Opening, application: str, password_file: Path | None) -> None:
        self._connector = Connector(address_of(opening.settings), application=application, password_file=password_file)
        super().__init__(opening, self._connector, DRIVER, statement_of)
        self.copy_side = MysqlSide(self.url, self._rows, self.describe)

    async def close(self) -> None:
        """Disconnect, after what is being committed."""
        await super().close()
        await self._connector.close()

    async def read_only(self, statement: Statement, parameters: list[Any], timeout_ms: int) -> Result:
        """Run a statement that must not write: see `Database.read_only`."""
        _check_reads(statement)
        return await super().read_only(statement, parameters, timeout_ms)

    async def stream(self, statement: Statement, parameters: list[Any], timeout_ms: int, take: Take) -> None:
        """Run a statement that must not write, and hand its rows over in batches: see `Database.stream`."""
        _check_reads(statement)
        await super().stream(statement, parameters, timeout_ms, take)

    async def transaction(
        self,
        statements: Sequence[tuple[Statement, list[Any]]],
        timeout_ms: int,
        committed: Committed | None = None,
        isolation: str | None = None,
        expected: Expected = (),
        conclude: Conclude[Statement] | None = None,
    ) -> list[Result]:
        """Run statements all or not at all: see `Database.transaction`."""
        for index, (statement, _) in enumerate(statements):
            try:
                statement.check_in_transaction()
            except InvalidParam as error:
                error.details["failed_index"] = index
                raise
        return await super().transaction(statements, timeout_ms, committed, isolation, expected, conclude)

    def _runs_by_itself(self, statement: Statement) -> bool:
        return statement.reads or statement.commits is not None

    async def begin_alone(self, transaction_id: str, lock_timeout_ms: int) -> InteractiveTransaction[Statement, Result]:
        """Open a transaction that has a lock of its database: see `Database.begin_alone`.

        Statements that commit by themselves may run in it; the lock is the session's, and stays.
        """
        limit_s = min(-(-lock_timeout_ms // 1000), LONGEST_LOCK_TIMEOUT_S)
        async with self._failures():
            lease = await self._begun(None)
            try:
                try:
                    async with time_limit(self._clock, lock_timeout_ms / 1000):
                        await lease.connection.fetch(_LOCK)
                except TimeoutError as error:
                    raise self._kept_by_another(lock_timeout_ms) from error
                await lease.connection.command(
                    f"SET SESSION innodb_lock_wait_timeout = {limit_s}, lock_wait_timeout = {limit_s}"
                )
                await lease.connection.command("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
                await lease.connection.begin(None)
                lease.connection.may_commit = True
            except BaseException:
                self._pool.give(lease)
                raise
        return self._interactive(transaction_id, lease, self._pool)

    # --- what tools ask ------------------------------------------------------------------------------------

    async def tables(self) -> list[tuple[str, str]]:
        """Return name and kind of the tables: see `Database.tables`."""
        return await schema.tables(self._rows)

    async def describe(self, table: str) -> dict[str, Any] | None:
        """Describe a table: see `Database.describe`."""
        return await schema.describe(self._rows, table)

    async def plan(self, statement: Statement, parameters: list[Any]) -> list[dict[str, Any]]:
        """Return how the server would run a statement: see `Database.plan`."""
        return schema.steps(await self._explained(schema.explaining(statement.text), parameters))


def _check_reads(statement: Statement) -> None:
    """Refuse a statement that changes rows, or that would end the transaction that only reads."""
    if statement.commits is not None or statement.target is not None:
        raise StatementWrites(
            "the statement writes", details={"driver": "mysql", "inner_code": str(READ_ONLY_TRANSACTION)}
        )
