"""Which kinds of databases there are, and one entry of `databases`.

A backend is a folder beside this module with `examples`, `check` and `open` in its `__init__` (see `Backend`), and one
line in `BACKENDS`. It reads the entry's settings as it can use them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, cast

import msgspec

from linkly import Settings
from linkly.clock import Clock
from linkly_workers.database.backend import Database

BACKENDS = {
    "sqlite": "linkly_workers.database.sqlite",
    "postgres": "linkly_workers.database.postgres",
    "postgresql": "linkly_workers.database.postgres",
    "postgresql+asyncpg": "linkly_workers.database.postgres",
    **{
        scheme: "linkly_workers.database.mysql"
        for name in ("mysql", "mariadb")
        for scheme in (name, *(f"{name}+{driver}" for driver in ("asyncmy", "aiomysql", "pymysql", "mysqldb")))
    },
}
"""The module of each scheme that a url may have."""

Integers = Literal["number", "string"]


class PoolSettings(Settings):
    """Connections of one database."""

    max: Annotated[int, msgspec.Meta(ge=1)] = 10
    idle_timeout_ms: int = 30_000
    acquire_timeout_ms: int = 5000


class TlsSettings(Settings):
    """How a connection over the network is secured.

    Attributes:
        mode: `require`: encrypted, and somebody who is trusted has signed the server's certificate; `verify-full`: it
            is that of this host as well.
        ca_cert: File of the certificates that are trusted, in place of the system's.
    """

    mode: Literal["disable", "require", "verify-full"] = "require"
    ca_cert: str | None = None


class OneDatabase(Settings):
    """One entry of `databases`; what a kind of database has no use for, it refuses (see `refuse_unused`).

    Attributes:
        url: Its scheme says which kind of database it is.
        pool: Its connections.
        tls: How they are secured.
        durability: What an answered write survives, where the database leaves that to its clients.
        password_file: File of the password in place of the url's; read for every connection.
        pooler: `transaction`: between linkly and the server stands a pooler that gives a connection to a client for one
            transaction at a time (PgBouncer and its kind).
        direct_url: Where the server is without the pooler, for what cannot go through it.
        integers: How the columns of 64-bit integers are answered where a call does not say it: as numbers, or as text,
            because JavaScript's numbers have 53 bits.
    """

    url: str
    pool: PoolSettings = msgspec.field(default_factory=PoolSettings)
    tls: TlsSettings | None = None
    durability: Literal["power", "process"] = "power"
    password_file: str | None = None
    pooler: Literal["transaction"] | None = None
    direct_url: str | None = None
    integers: Integers = "number"

    def __post_init__(self) -> None:
        backend_of(self.url).check(self)


class Opening(msgspec.Struct):
    """What a backend is told when it opens a database.

    Attributes:
        name: As the config calls it.
        settings: Its entry.
        max_result_bytes: A call whose rows are larger fails.
        clock: For time-outs and waiting.
        located: Returns the absolute path of a file that the config names.
        engine_id: Asks for the id of the engine that runs the worker: the same for all generations of the worker, new
            with each start of the engine. Raises `LinklyError` if nobody says.
    """

    name: str
    settings: OneDatabase
    max_result_bytes: int
    clock: Clock
    located: Callable[[str], Path]
    engine_id: Callable[[], Awaitable[str]]


class Backend(Protocol):
    """What the module of a backend offers.

    Attributes:
        examples: Urls as people would write them; an error about a url quotes them.
    """

    examples: Sequence[str]

    def check(self, settings: OneDatabase) -> None:
        """Check an entry of `databases`, without opening anything.

        Raises:
            ValueError: It cannot be used; the message starts with the key.
        """
        ...

    def open(self, opening: Opening) -> AbstractAsyncContextManager[Database[Any]]:
        """Keep a database open; at the end what was accepted is written.

        Raises:
            ConfigError: It cannot be opened, or another engine has it.
        """
        ...


def refuse_unused(settings: OneDatabase, kind: str, unused: Mapping[str, str]) -> None:
    """Refuse settings that a kind of database does not use; `unused` says of each which kinds have it.

    Raises:
        ValueError: One is given.
    """
    for key, kinds in unused.items():
        if getattr(settings, key) is not None:
            raise ValueError(f"{key}: {kind} does not use it, it is for {kinds}; remove it")


def backend_of(url: str) -> Backend:
    """Return the backend of a url.

    Raises:
        ValueError: There is none for its scheme.
    """
    scheme, found, rest = url.partition(":")
    module = BACKENDS.get(scheme.lower())
    if module is None or not found or not rest:
        examples = [example for each in dict.fromkeys(BACKENDS.values()) for example in _imported(each).examples]
        raise ValueError(
            f"url: scheme `{scheme}` is not supported by this version; "
            f"allowed: {' or '.join(f'`{example}`' for example in examples)}"
        )
    return _imported(module)


def _imported(module: str) -> Backend:
    return cast("Backend", import_module(module))
