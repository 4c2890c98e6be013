"""A PostgreSQL server for the tests of one session: the one that LINKLY_TEST_POSTGRES names, or Debian's binaries.

A server that is started here has a data folder of its own, which goes with it, and ends by its own pid: with the
session, or when the test process is gone. A database that somebody else uses is never touched.
"""

import asyncio
import importlib
import os
import secrets
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from support.server_program import ServerProgram, running

VARIABLE = "LINKLY_TEST_POSTGRES"
MISSING = (
    f"there is no PostgreSQL to test with: install Debian's package `postgresql`, or name a server that tests may use, "
    f"as {VARIABLE}=postgres://user:password@host/database"
)
NEEDS_DRIVER = "there is no asyncpg: pip install -e '.[dev]'"


def binaries() -> Path | None:
    """Return the folder of the newest server that is installed, `None` if there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parent.parent.name))
    return found[-1].parent if found else None


class PostgresServer(ServerProgram):
    """PostgreSQL, the newest of Debian's that is installed."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder, port, ("postgres", "nobody"))
        found = binaries()
        assert found is not None, MISSING
        self.bin = found

    @property
    def url(self) -> str:
        """Where it is, over TCP."""
        return f"postgres://linkly:{self.password}@127.0.0.1:{self.port}/postgres"

    @property
    def socket_url(self) -> str:
        """Where it is, over its socket."""
        return f"postgres://linkly:{self.password}@/postgres?host={quote(str(self.folder), safe='')}&port={self.port}"

    def make_data(self) -> None:
        secret = self.folder / "password"
        secret.write_text(self.password)
        secret.chmod(0o644)
        options = ("--username=linkly", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
        self.run(self.bin / "initdb", f"--pgdata={self.folder}/data", f"--pwfile={secret}", *options)

    def start(self, *settings: str) -> None:
        given = [f"port={self.port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={self.folder}"]
        given += ["fsync=off", "max_connections=60", "shared_buffers=16MB", "logging_collector=off", *settings]
        words = [word for setting in given for word in ("-c", setting)]
        self.launch(self.bin / "postgres", "-D", f"{self.folder}/data", *words, answers=self._answers)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it and wait: SIGINT closes connections, SIGQUIT ends it as a crash would."""
        self.end(how)

    def _answers(self) -> bool:
        check = [str(self.bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(check, check=False).returncode == 0


@contextmanager
def running_server(*settings: str) -> Iterator[PostgresServer]:
    """Run a server of Debian's binaries until the block ends; skip the test where there is nothing to ask it with."""
    pytest.importorskip("asyncpg", reason=NEEDS_DRIVER)
    with running(PostgresServer, "postgres", *settings) as server:
        yield server


@contextmanager
def server_url() -> Iterator[str]:
    """Yield the url of a server that tests may use; skip the test where there is none."""
    given = os.environ.get(VARIABLE)
    if given:
        pytest.importorskip("asyncpg", reason=NEEDS_DRIVER)
        yield given
    elif binaries() is None:
        pytest.skip(MISSING)
    else:
        with running_server() as server:
            yield server.url


class Schemas:
    """Makes schemas on a server over one connection: one for each schema costs 12 ms of CPU time.

    It has a loop of its own, so a fixture that uses it is not a coroutine.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._loop = asyncio.new_event_loop()
        self._connection = self._loop.run_until_complete(importlib.import_module("asyncpg").connect(url))
        self._run("SET lock_timeout = '30s'")

    @contextmanager
    def one(self) -> Iterator[str]:
        """Make a schema, yield the url whose tables are in it, and drop it."""
        name = f"test_{secrets.token_hex(6)}"
        self._run(f"CREATE SCHEMA {name}")
        try:
            yield in_schema(self._url, name)
        finally:
            self._run(f"DROP SCHEMA {name} CASCADE")

    def close(self) -> None:
        """Disconnect."""
        self._loop.run_until_complete(self._connection.close())
        self._loop.close()

    def _run(self, sql: str) -> None:
        self._loop.run_until_complete(self._connection.execute(sql))


def in_schema(url: str, name: str) -> str:
    """Return the url of a server whose tables are in a schema."""
    return f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{name}"


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    """Have a connection of asyncpg: a client of the server that knows nothing of linkly."""
    connection = await importlib.import_module("asyncpg").connect(url)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def own_schema(url: str, name: str) -> AsyncIterator[str]:
    """Make a schema, yield the url whose tables are in it, and drop it."""
    async with connected(url) as connection:
        await connection.execute(f"CREATE SCHEMA {name}")
        try:
            yield in_schema(url, name)
        finally:
            await connection.execute(f"DROP SCHEMA {name} CASCADE")
