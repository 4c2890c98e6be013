"""A PostgreSQL server for the tests of one session: the one that LINKLY_TEST_POSTGRES names, or Debian's binaries.

A server that is started here has a data folder of its own, which goes with it, and ends by its own pid: with the
session, or when the test process is gone. A database that somebody else uses is never touched.
"""

import contextlib
import importlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from support.ports import reserved_port

VARIABLE = "LINKLY_TEST_POSTGRES"
MISSING = (
    f"there is no PostgreSQL to test with: install Debian's package `postgresql`, or name a server that tests may use, "
    f"as {VARIABLE}=postgres://user:password@host/database"
)
START_S = 60.0


def binaries() -> Path | None:
    """Return the folder of the newest server that is installed, `None` if there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parent.parent.name))
    return found[-1].parent if found else None


class PostgresServer:
    """A server that can be stopped, killed and started again.

    Attributes:
        port: Where it listens on 127.0.0.1.
        folder: Holds its data, its socket and its log.
        password: Of the user `linkly`, who may do everything.
        as_user: What is put before a command that root may not run.
    """

    def __init__(self, folder: Path, port: int) -> None:
        found = binaries()
        assert found is not None, MISSING
        self.bin, self.folder, self.port = found, folder, port
        self.password = secrets.token_hex(8)
        self._process: subprocess.Popen[bytes] | None = None
        self.as_user: list[str] = []
        if os.getuid() == 0:  # the server refuses to run as root
            user = _other_user()
            os.chown(folder, user.pw_uid, user.pw_gid)
            self.as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        # It ends with the test process, however that ends.
        self._bound_to_us = ["setpriv", "--pdeathsig=QUIT"] if shutil.which("setpriv") else []

    @property
    def url(self) -> str:
        """Where it is, over TCP."""
        return f"postgres://linkly:{self.password}@127.0.0.1:{self.port}/postgres"

    @property
    def socket_url(self) -> str:
        """Where it is, over its socket."""
        return f"postgres://linkly:{self.password}@/postgres?host={quote(str(self.folder), safe='')}&port={self.port}"

    @property
    def pid(self) -> int:
        """The process that all others of the server are children of."""
        assert self._process is not None
        return self._process.pid

    def make(self) -> None:
        """Make the data folder."""
        secret = self.folder / "password"
        secret.write_text(self.password)
        secret.chmod(0o644)
        options = ("--username=linkly", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
        self._run("initdb", f"--pgdata={self.folder}/data", f"--pwfile={secret}", *options)

    def start(self, *settings: str) -> None:
        """Start it and wait until it answers; `settings` are texts like `max_connections=20`."""
        given = [f"port={self.port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={self.folder}"]
        given += ["fsync=off", "max_connections=60", "shared_buffers=16MB", "logging_collector=off", *settings]
        command = [*self.as_user, *self._bound_to_us, str(self.bin / "postgres"), "-D", f"{self.folder}/data"]
        for setting in given:
            command += ["-c", setting]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", start_new_session=True)
        self._wait()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it and wait: SIGINT closes connections, SIGQUIT ends it as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(START_S)

    def _wait(self) -> None:
        assert self._process is not None
        end = time.monotonic() + START_S
        check = [str(self.bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(check, check=False).returncode:
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < end, f"no answer: {(self.folder / 'log').read_text()}"
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.02)

    def _run(self, name: str, *words: str) -> None:
        command = [*self.as_user, str(self.bin / name), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == 0, done.stdout + done.stderr


def _other_user() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise AssertionError("the server does not run as root, and there is neither `postgres` nor `nobody`")


@contextmanager
def running_server(*settings: str) -> Iterator[PostgresServer]:
    """Run a server of Debian's binaries until the block ends."""
    # Not pytest's own folder: the server's user may not look into that of root.
    with tempfile.TemporaryDirectory(prefix="linkly-postgres-", dir="/tmp") as folder, reserved_port() as port:
        server = PostgresServer(Path(folder), port)
        server.make()
        server.start(*settings)
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def server_url() -> Iterator[str]:
    """Yield the url of a server that tests may use; skip the test where there is none."""
    pytest.importorskip("asyncpg", reason="asyncpg is missing: pip install -e '.[dev]'")
    given = os.environ.get(VARIABLE)
    if given:
        yield given
    elif binaries() is None:
        pytest.skip(MISSING)
    else:
        with running_server() as server:
            yield server.url


@asynccontextmanager
async def own_schema(url: str, name: str) -> AsyncIterator[str]:
    """Make a schema, yield the url whose tables are in it, and drop it."""
    asyncpg = importlib.import_module("asyncpg")
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"CREATE SCHEMA {name}")
        try:
            yield f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{name}"
        finally:
            await connection.execute(f"DROP SCHEMA {name} CASCADE")
    finally:
        await connection.close()
