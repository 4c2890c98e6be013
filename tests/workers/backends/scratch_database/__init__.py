"""A backend as small as one can be: tables in memory, one caller after another, each write committed by itself.

It is what CONTRIBUTING.md's steps give. The SQL is run by the standard library's `sqlite3`, and nothing of linkly's own
SQLite is used.
"""

import asyncio
import re
import sqlite3
import time
from contextlib import asynccontextmanager, contextmanager

import msgspec

from linkly.errors import ConfigError
from linkly_workers._sql.tokens import SQLITE
from linkly_workers.database.errors import (
    DriverError,
    InvalidParam,
    LockTimeout,
    QueryTimeout,
    ResultTooLarge,
    StatementWrites,
    TransactionNotFound,
)
from linkly_workers.database.values import check_rows

examples = ("scratch:name",)
CHANGE = re.compile(r"(?:\s|--.*\n)*(INSERT|UPDATE|DELETE)\s+(?:INTO\s+|FROM\s+)?(\w+)", re.IGNORECASE)
CONTROL = re.compile(r"(BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|END|ATTACH|PRAGMA)\b", re.IGNORECASE)


def check(settings):
    """Check an entry of `databases`."""
    if settings.url.endswith(":forbidden"):
        raise ValueError("url: `forbidden` cannot be used")


@asynccontextmanager
async def open(opening):
    """Keep a database open."""
    if opening.settings.url.endswith(":broken"):
        raise ConfigError(f"database `{opening.name}` cannot be opened")
    database = ScratchDatabase(opening)
    try:
        yield database
    finally:
        database.connection.close()


class Statement(msgspec.Struct):
    text: str

    def rows_of(self, result):
        return result.affected_rows if CHANGE.match(self.text) else len(result.rows)


class Result(msgspec.Struct):
    columns: list
    rows: list
    affected_rows: int
    last_insert_id: int | None
    types: list = []
    change: tuple | None = None

    @property
    def big_integers(self):
        return range(len(self.columns))

    def readable(self, *, as_bytes):
        """Return the rows: every text is UTF-8 here."""
        return self.rows


class ScratchDatabase:
    driver = "scratch"
    dialect = SQLITE
    copy_side = None
    capture = None
    waiting_writes = 0
    idle_connections = 0

    def __init__(self, opening):
        self.name, self.url = opening.name, opening.settings.url
        self.limit = opening.max_result_bytes
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.turn = asyncio.Lock()

    def trouble(self):
        return None

    def statement(self, sql):
        text = sql.strip(" ;\n")
        if not text:
            raise DriverError("empty SQL", details={"driver": self.driver, "inner_code": None})
        if CONTROL.match(text):
            raise InvalidParam(f"`{text.split()[0]}` is not for callers", details={"index": 0})
        return Statement(text)

    async def check(self, statement):
        self.run(Statement("EXPLAIN " + statement.text), None)

    async def query(self, statement, parameters, timeout_ms, committed=None):
        result = await self.execute(statement, parameters, timeout_ms, committed)
        result.types = [""] * len(result.columns)
        return result

    async def read_only(self, statement, parameters, timeout_ms):
        if CHANGE.match(statement.text):
            raise StatementWrites("it writes", details={"driver": self.driver, "inner_code": "READ_ONLY"})
        return await self.query(statement, parameters, timeout_ms)

    async def stream(self, statement, parameters, timeout_ms, take):
        await take(await self.read_only(statement, parameters, timeout_ms))

    async def execute(self, statement, parameters, timeout_ms, committed=None):
        return (await self.all([(statement, parameters)], timeout_ms, committed))[0]

    async def transaction(self, statements, timeout_ms, committed=None, isolation=None, expected=(), conclude=None):
        try:
            return await self.all(statements, timeout_ms, committed, expected, conclude)
        except DriverError as error:
            error.details["failed_index"] = self.failed
            raise

    async def all(self, statements, timeout_ms, committed, expected=(), conclude=None):
        try:
            async with asyncio.timeout(timeout_ms / 1000 or None):
                await self.turn.acquire()
        except TimeoutError as error:
            raise self.timeout(timeout_ms) from error
        try:
            with self.committing(), self.limited(timeout_ms):
                results = []
                for self.failed, (statement, parameters) in enumerate(statements):
                    results.append(self.run(statement, parameters))
                    if expected:
                        check_rows(self.failed, expected, statement.rows_of(results[-1]))
                if conclude is not None:
                    self.run(*conclude(results))
            if committed is not None:
                committed([each for each in results if each.change])
            return results
        finally:
            self.turn.release()

    async def begin(self, transaction_id, isolation):
        await self.turn.acquire()
        self.connection.execute("BEGIN")
        return ScratchTransaction(transaction_id, self)

    async def begin_alone(self, transaction_id, lock_timeout_ms):
        try:
            async with asyncio.timeout(lock_timeout_ms / 1000):
                return await self.begin(transaction_id, None)
        except TimeoutError as error:
            raise LockTimeout("somebody else has it", details={"db": self.name}) from error

    async def tables(self):
        found = "SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view') ORDER BY name"
        return self.connection.execute(found).fetchall()

    async def describe(self, table):
        columns = self.connection.execute("SELECT name, type FROM pragma_table_info(?)", (table,)).fetchall()
        found = {"name": table, "type": "table", "primary_key": [], "indexes": [], "foreign_keys": []}
        return {**found, "columns": [{"name": name, "type": kind} for name, kind in columns]} if columns else None

    async def plan(self, statement, parameters):
        steps = self.run(Statement("EXPLAIN QUERY PLAN " + statement.text), parameters).rows
        return [{"id": row[0], "parent": row[1], "detail": row[3]} for row in steps]

    def run(self, statement, parameters):
        try:
            cursor = self.connection.execute(statement.text, parameters or ())
            columns, rows = [column[0] for column in cursor.description or ()], []
            for row in cursor:
                rows.append(row)
                if sum(len(str(value)) for each in rows for value in each) > self.limit:
                    raise ResultTooLarge("too large", details={"driver": self.driver})
        except sqlite3.Error as error:
            if "interrupted" in str(error):
                raise self.timeout(0) from error
            if parameters is None and "bindings" in str(error):
                return None
            raise DriverError(
                str(error), details={"driver": self.driver, "inner_code": error.sqlite_errorname}
            ) from error
        change = CHANGE.match(statement.text)
        affected = max(0, cursor.rowcount)
        inserted = cursor.lastrowid if affected and change[1].upper() == "INSERT" else None
        told = (change[1].lower(), change[2]) if change and affected else None
        return Result(columns, rows, affected, inserted, change=told)

    @contextmanager
    def committing(self):
        self.connection.execute("BEGIN")
        try:
            yield
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    @contextmanager
    def limited(self, timeout_ms):
        end = time.monotonic() + timeout_ms / 1000
        self.connection.set_progress_handler(lambda: timeout_ms and time.monotonic() > end, 1000)
        try:
            yield
        finally:
            self.connection.set_progress_handler(None, 0)

    def timeout(self, timeout_ms):
        return QueryTimeout("it took too long", details={"db": self.name, "timeout_ms": timeout_ms})


class ScratchTransaction:
    ended = False

    def __init__(self, transaction_id, database):
        self.id, self.database, self.why = transaction_id, database, "has ended"

    async def query(self, statement, parameters, *, tell_change=False):
        result = await self.execute(statement, parameters)
        result.types = [""] * len(result.columns)
        return result

    async def execute(self, statement, parameters, *, tell_change=False):
        if self.ended:
            raise TransactionNotFound(f"transaction `{self.id}` {self.why}")
        return self.database.run(statement, parameters)

    async def commit(self, committed):
        self.end("COMMIT")
        committed()

    async def roll_back(self, why):
        if not self.ended:
            self.why = f"was rolled back {why}"
            self.end("ROLLBACK")

    def end(self, how):
        self.ended = True
        try:
            self.database.connection.execute(how)
        finally:
            self.database.turn.release()
