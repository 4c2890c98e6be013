"""A MariaDB or MySQL server for the tests of one session: one that a variable names, or Debian's MariaDB.

A server that is started here has a data folder of its own, which goes with it, and ends by its own pid: with the
session, or when the test process is gone. On a server that somebody else runs, tests make databases of their own and
touch no other.
"""

import importlib
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import pytest

from support.server_program import ServerProgram, running

VARIABLES = {"mariadb": "LINKLY_TEST_MARIADB", "mysql": "LINKLY_TEST_MYSQL"}
MISSING = (
    "there is no MariaDB to test with: install Debian's package `mariadb-server`, or name a server on which tests may "
    f"make databases, as {VARIABLES['mariadb']}=mysql://user:password@host (MySQL: {VARIABLES['mysql']})"
)


def program() -> str | None:
    """Return where the server is, `None` if it is not installed."""
    return shutil.which("mariadbd", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")


class MariadbServer(ServerProgram):
    """MariaDB, Debian's."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder, port, ("mysql", "nobody"))

    @property
    def url(self) -> str:
        """Where it is, over TCP."""
        return f"mysql://linkly:{self.password}@127.0.0.1:{self.port}/linkly"

    @property
    def socket_url(self) -> str:
        """Where it is, over its socket."""
        return f"mysql://linkly:{self.password}@localhost/linkly?unix_socket={quote(str(self._socket), safe='')}"

    @property
    def _socket(self) -> Path:
        return self.folder / "socket"

    def make_data(self) -> None:
        (self.folder / "init.sql").write_text(
            "CREATE DATABASE IF NOT EXISTS linkly;\n"
            f"CREATE USER IF NOT EXISTS linkly@'%' IDENTIFIED BY '{self.password}';\n"
            "GRANT ALL ON *.* TO linkly@'%' WITH GRANT OPTION;\n"
        )
        (self.folder / "init.sql").chmod(0o644)
        options = ("--skip-test-db", "--skip-name-resolve", "--auth-root-authentication-method=normal")
        self.run("mkdir", f"{self.folder}/tmp")
        self.run("mariadb-install-db", "--no-defaults", *self._folders, *options, *self._small)

    def start(self, *settings: str) -> None:
        found = program()
        assert found is not None, MISSING
        given = [f"socket={self._socket}", f"pid-file={self.folder}/pid", f"init-file={self.folder}/init.sql"]
        given += [f"port={self.port}", "bind-address=127.0.0.1", "skip-name-resolve"]
        given += ["innodb_flush_log_at_trx_commit=2", "max_connections=60", "max_allowed_packet=64M", *settings]
        words = [*self._folders, *(f"--{each}" for each in given), *self._small]
        self.launch(found, "--no-defaults", *words, answers=self._answers)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it and wait: SIGTERM closes connections, SIGKILL ends it as a crash would."""
        self.end(how)

    _small = (
        *("--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M", "--performance-schema=OFF"),
        # What is committed survives the end of the server, not that of the machine.
        *("--debug-no-sync", "--innodb-flush-method=nosync", "--skip-sync-frm"),
    )

    @property
    def _folders(self) -> tuple[str, str]:
        # A server that starts removes the temporary tables of all that are in its `tmpdir`: none may share /tmp.
        return f"--datadir={self.folder}/data", f"--tmpdir={self.folder}/tmp"

    def _answers(self) -> bool:
        """Whether it greets: it listens before it has read what users there are, and then lets a client wait."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            try:
                client.connect(str(self._socket))
                return bool(client.recv(1))
            except OSError:
                return False


@contextmanager
def running_server(*settings: str) -> Iterator[MariadbServer]:
    """Run a server of Debian's binaries until the block ends."""
    with running(MariadbServer, "mariadb", *settings) as server:
        yield server


@contextmanager
def server_url(kind: str = "mariadb") -> Iterator[str]:
    """Yield the url of a `mariadb` or `mysql` that tests may use; skip the test where there is none."""
    pytest.importorskip("asyncmy", reason="asyncmy is missing: pip install -e '.[dev]'")
    given = os.environ.get(VARIABLES[kind])
    if given:
        yield given
    elif kind != "mariadb" or program() is None:
        pytest.skip(MISSING)
    else:
        with running_server() as server:
            yield server.url


@asynccontextmanager
async def own_database(url: str, name: str) -> AsyncIterator[str]:
    """Make a database, yield its url, and drop it."""
    parts = urlsplit(url)
    connect = importlib.import_module("asyncmy").connect
    connection = await connect(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        autocommit=True,
    )
    async with connection:
        await connection.query(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        try:
            yield parts._replace(path=f"/{name}").geturl()
        finally:
            await connection.query(f"DROP DATABASE {name}")
