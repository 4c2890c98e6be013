"""The server that the tests of MySQL start: it is killed and started again, as faults need it."""

import importlib
import secrets
import signal

import pytest

from support.mariadb_server import MISSING, own_database, program, running_server

pytestmark = pytest.mark.skipif(program() is None, reason=MISSING)


async def row(sql, **where):
    connect = importlib.import_module("asyncmy").connect
    async with await connect(autocommit=True, **where) as connection, connection.cursor() as cursor:
        await cursor.execute(sql)
        return await cursor.fetchone()


@pytest.fixture(scope="module")
def server():
    with running_server("innodb_flush_log_at_trx_commit=1", "max_connections=70") as server:
        yield server


@pytest.fixture
def where(server):
    return {"user": "linkly", "password": server.password, "host": "127.0.0.1", "port": server.port, "db": "linkly"}


async def test_it_has_what_was_committed_after_it_was_killed_or_stopped(server, where):
    await row("CREATE TABLE t AS SELECT 1 AS a", **where)
    for how in (signal.SIGKILL, signal.SIGTERM):
        pid = server.pid
        server.stop(how)
        server.start("max_connections=80")
        assert server.pid != pid
        assert await row("SELECT a, @@max_connections FROM t", **where) == (1, 80)


async def test_it_is_asked_over_its_socket_as_well(server, where):
    assert server.socket_url.endswith("%2Fsocket")
    on_socket = {**where, "unix_socket": str(server.folder / "socket")}
    assert await row("SELECT CURRENT_USER()", **on_socket) == ("linkly@%",)


async def test_a_database_of_ones_own_goes_with_its_block(server, where):
    name = f"test_{secrets.token_hex(4)}"
    named = f"SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = '{name}'"
    async with own_database(server.url, name) as url:
        assert url == server.url.removesuffix("/linkly") + f"/{name}"
        assert await row(named, **where) == (1,)
    assert await row(named, **where) == (0,)
