"""A disk that is really full: the server's data lie in a small file system of their own, which a file fills up."""

import contextlib
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

from linkly import LinklyError
from linkly.schema import read_settings
from linkly.testing import running_engine
from linkly_workers.database import DatabaseSettings, DatabaseWorker
from support.ports import reserved_port
from support.postgres_server import MISSING, PostgresServer, binaries

pytestmark = [
    pytest.mark.skipif(binaries() is None, reason=MISSING),
    pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a file system; run this test as root"),
]

TWO_MB = "INSERT INTO t (a) SELECT repeat(md5(i::text), 50) FROM generate_series(1, 2000) AS i"


@contextmanager
def small_disk(folder, size):
    folder.mkdir()
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=False)
        if mounted.returncode:
            pytest.skip("root may not mount a file system here: a container needs CAP_SYS_ADMIN for it")
        try:
            yield
        finally:
            subprocess.run(["umount", folder], check=True)
    finally:
        folder.rmdir()


@pytest.fixture
def server(tmp_path_factory):
    pytest.importorskip("asyncpg", reason="asyncpg is missing: pip install -e '.[dev]'")
    with reserved_port() as port:
        # The server's user has to reach it: pytest's own folders are closed to others.
        folder = Path(f"/tmp/linkly-full-disk-{port}")
        with small_disk(folder, "64m"):
            server = PostgresServer(folder, port)
            server.make()
            server.start("max_wal_size=32MB")
            try:
                yield server
            finally:
                server.stop()


@contextmanager
def filled(folder):
    """Take all space that is left, until the block ends."""
    place = folder / "filling"
    file = os.open(place, os.O_CREAT | os.O_WRONLY)
    try:
        for part in (bytes(1 << 16), b"x"):
            with contextlib.suppress(OSError):  # no space left on device
                while os.write(file, part):
                    pass
        yield
    finally:
        os.close(file)
        place.unlink()


async def test_a_full_disk_is_told_loses_nothing_and_is_over_when_there_is_space(server):
    settings = read_settings(DatabaseSettings, {"databases": {"primary": {"url": server.url}}}, "$")
    async with running_engine(DatabaseWorker(settings)) as bus:

        async def call(name, sql):
            return await bus.trigger(f"database::{name}", {"sql": sql})

        async def count():
            return (await call("query", "SELECT count(*) AS n FROM t"))["rows"][0]["n"]

        await call("execute", "CREATE TABLE t (id serial PRIMARY KEY, a text)")
        await call("execute", "INSERT INTO t (a) VALUES ('before')")
        with filled(server.folder):
            with pytest.raises(LinklyError, match="No space left on device") as failure:
                await call("execute", TWO_MB)
            error = failure.value
            assert (error.code, error.details["inner_code"]) == ("DRIVER_ERROR", "53100")
            assert "retryable" not in error.details
            assert await count() == 1
        assert (await call("execute", TWO_MB))["affected_rows"] == 2000
        assert await count() == 2001
