"""The servers that the database worker is tested with, each as the tests of all of them need it."""

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from linkly import Bus
from support import mariadb_server, postgres_server
from support.database_calls import value


class Server(NamedTuple):
    """A kind of server, and how to say there what its tests say.

    Attributes:
        driver: What the worker calls it.
        run: Runs one that may be killed.
        missing: Why there is none to run; `None` if there is.
        sleep: A function that sleeps for seconds.
        mine: An expression for the number of a connection.
        numbers: A table with so many rows, of which `n` counts.
        running: Counts the statements of others that contain a text.
        wrong_password, unknown_database: Words in what it says then.
        refused: Its code for a wrong password.
        deadlock: Its code for one.
        only_reads: Its code where it takes no writes.
        asks: What the worker asks to know that.
        reads_only: Settings with which it starts so.
        client_ports: The ports from which clients are connected.
        user: An expression for who is connected.
        prepare: Makes a user `plain` who may do everything that the worker does, and nothing with the server.
        takes_no_writes, takes_writes: Switch that on the server.
        make_rita, change_rita, drop_rita: A user whose password is `first`, then `second`.
    """

    driver: str
    run: Callable[..., AbstractContextManager[Any]]
    missing: str | None
    sleep: str
    mine: str
    numbers: str
    running: str
    wrong_password: str
    unknown_database: str
    refused: str
    deadlock: str
    only_reads: str
    asks: bytes
    reads_only: tuple[str, ...]
    client_ports: str
    user: str
    prepare: tuple[str, ...]
    takes_no_writes: tuple[str, ...]
    takes_writes: tuple[str, ...]
    make_rita: tuple[str, ...]
    change_rita: tuple[str, ...]
    drop_rita: tuple[str, ...]

    def url(self, server: Any, login: str = "plain:plain") -> str:
        """Return the url of the server for `plain`, or for whom `login` names."""
        parts = urlsplit(server.url)
        return urlunsplit(parts._replace(netloc=f"{login}@{parts.netloc.rpartition('@')[2]}"))

    def running_on_server(self, bus: Bus, words: str) -> Callable[[], Any]:
        """Return what tells whether a statement runs on the server, seen from another connection."""

        async def ask() -> bool:
            return bool(await value(bus, self.running, f"%{words}%") > 0)

        return ask


POSTGRES = Server(
    driver="postgres",
    run=lambda: postgres_server.running_server("deadlock_timeout=100ms"),
    missing=None if postgres_server.binaries() is not None else postgres_server.MISSING,
    sleep="pg_sleep",
    mine="pg_backend_pid()",
    numbers="generate_series(1, {}) n",
    running="SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE ?",
    wrong_password="password authentication failed",
    unknown_database='database "missing" does not exist',
    refused="28P01",
    deadlock="40P01",
    only_reads="25006",
    asks=b"SHOW transaction_read_only",
    reads_only=(),
    client_ports="SELECT client_port FROM pg_stat_activity WHERE client_port IS NOT NULL",
    user="current_user::text",
    prepare=(
        "CREATE ROLE plain LOGIN PASSWORD 'plain' IN ROLE pg_monitor, pg_signal_backend",
        "GRANT ALL ON SCHEMA public TO plain",
    ),
    takes_no_writes=("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"),
    takes_writes=("ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()"),
    make_rita=("CREATE ROLE rita LOGIN PASSWORD 'first'",),
    change_rita=(
        "ALTER ROLE rita PASSWORD 'second'",
        "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE usename = 'rita'",
    ),
    drop_rita=("DROP ROLE rita",),
)

MARIADB = Server(
    driver="mysql",
    run=mariadb_server.running_server,
    missing=None if mariadb_server.program() is not None else mariadb_server.MISSING,
    sleep="SLEEP",
    mine="CONNECTION_ID()",
    numbers="(SELECT seq AS n FROM seq_1_to_{}) numbers",
    running="SELECT count(*) FROM information_schema.processlist "
    "WHERE command IN ('Query', 'Execute') AND id <> CONNECTION_ID() AND info LIKE ?",
    wrong_password="Access denied for user",
    unknown_database="Unknown database 'missing'",
    refused="1045",
    deadlock="1213",
    only_reads="1290",
    asks=b"@@read_only",
    reads_only=("read_only=1",),
    client_ports="SELECT CAST(SUBSTRING_INDEX(host, ':', -1) AS SIGNED) FROM information_schema.processlist "
    "WHERE host LIKE '%:%'",
    user="SUBSTRING_INDEX(CURRENT_USER(), '@', 1)",
    prepare=(
        "CREATE USER plain IDENTIFIED BY 'plain'",
        "GRANT ALL ON linkly.* TO plain",
        "GRANT PROCESS ON *.* TO plain",
    ),
    takes_no_writes=("SET GLOBAL read_only = 1",),
    takes_writes=("SET GLOBAL read_only = 0",),
    make_rita=("CREATE USER rita IDENTIFIED BY 'first'", "GRANT ALL ON linkly.* TO rita"),
    change_rita=("ALTER USER rita IDENTIFIED BY 'second'", "KILL USER rita"),
    drop_rita=("DROP USER rita",),
)


async def ask_directly(server: Any, *statements: str) -> None:
    """Run statements as who may do everything, past the worker, which takes none that changes the server."""
    parts = urlsplit(server.url)
    if parts.scheme == "postgres":
        async with postgres_server.connected(server.url) as postgres:
            for statement in statements:
                await postgres.execute(statement)
        return
    asyncmy = importlib.import_module("asyncmy")
    mysql = await asyncmy.connect(host="127.0.0.1", port=server.port, user="linkly", password=server.password)
    async with mysql:
        for statement in statements:
            await mysql.query(statement)
