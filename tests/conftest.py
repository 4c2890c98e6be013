import gc
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from support import mariadb_server
from support.ports import reserved_port
from support.postgres_server import Schemas, server_url

# No example has a deadline and no strategy a speed: a machine under load would fail them.
CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("fast", max_examples=30, deadline=None, suppress_health_check=CHECKS)
settings.register_profile("thorough", settings.get_profile("fast"), max_examples=300)
settings.load_profile("fast")

SLOW = (
    *("compat/published", "cli/test_scaffold.py"),  # packages installed from a registry
    *(
        "integration",
        "repository/test_readme.py",
        "repository/test_pythons.py",
    ),  # the whole product, as people start it
    "cli/test_completion.py",  # real shells
    # Programs that are installed, replaced and killed; test_supervision and the tests of a project start some as well.
    *("engine/process/test_guard.py", "engine/process/test_installing.py", "engine/process/test_takeover.py"),
    "bench",  # what measures, run for a moment
)
"""What takes long and depends little on the version of Python: CI runs it with one version, the fast tests with all."""


SERVERS = ("postgres", "mariadb", "mysql")
"""How the names of kinds of databases end that are on a server."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow.

    Also a worker over the wire whose database is on a server: the fast tests have the wire with the other stores, and
    the server with a worker in process.
    """
    for item in items:
        path = item.path.relative_to(Path(__file__).parent).as_posix()
        if path.startswith(SLOW) or _over_wire_on_server(item):
            item.add_marker(pytest.mark.slow)


def _over_wire_on_server(item: pytest.Item) -> bool:
    params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    return params.get("run", "in process") != "in process" and any(
        isinstance(each, str) and each.endswith(SERVERS) for each in params.values()
    )


def pytest_collection_finish() -> None:
    """Leave what there is before the first test out of garbage collections: a full one takes 0.2 s of them."""
    gc.freeze()


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Run every async test on the loop the product runs on."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def reserve_port() -> Iterator[Callable[[], int]]:
    """Return what finds a port that nobody else gets while the test runs."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(reserved_port())


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Return the url of a PostgreSQL server that all tests of the session share, or skip."""
    with server_url() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_schemas(postgres_server: str) -> Iterator[Schemas]:
    """Return what makes schemas on it."""
    with closing(Schemas(postgres_server)) as schemas:
        yield schemas


@pytest.fixture
def other_postgres_url(postgres_schemas: Schemas) -> Iterator[str]:
    """Return the url of one more."""
    with postgres_schemas.one() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_schemas: Schemas) -> Iterator[str]:
    """Return the url of a database of one's own, as far as tables go: a schema that goes with the test."""
    with postgres_schemas.one() as url:
        yield url


KINDS_OF_MYSQL = ["mariadb", *(["mysql"] if mariadb_server.VARIABLES["mysql"] in os.environ else [])]


@pytest.fixture(scope="session")
def mysql_servers() -> Iterator[Callable[[str], str]]:
    """Return what tells the url of a MariaDB that all tests of the session share, or skips; of a MySQL as well."""
    with ExitStack() as running:
        found: dict[str, str] = {}

        def url(kind: str) -> str:
            if kind not in found:
                found[kind] = running.enter_context(mariadb_server.server_url(kind))
            return found[kind]

        yield url


@pytest.fixture(scope="session", params=KINDS_OF_MYSQL)
def mysql_server(request: pytest.FixtureRequest, mysql_servers: Callable[[str], str]) -> str:
    """Return the url of each kind of server."""
    return mysql_servers(request.param)


@pytest.fixture
async def other_mariadb_url(mysql_servers: Callable[[str], str]) -> AsyncIterator[str]:
    """Return the url of one more."""
    async with mariadb_server.own_database(mysql_servers("mariadb"), f"test_{secrets.token_hex(6)}") as url:
        yield url


@pytest.fixture
async def mariadb_url(mysql_servers: Callable[[str], str]) -> AsyncIterator[str]:
    """Return the url of a database of MariaDB that goes with the test."""
    async with mariadb_server.own_database(mysql_servers("mariadb"), f"test_{secrets.token_hex(6)}") as url:
        yield url


@pytest.fixture
async def real_mysql_url(mysql_servers: Callable[[str], str]) -> AsyncIterator[str]:
    """Return the url of a database of MySQL that goes with the test."""
    async with mariadb_server.own_database(mysql_servers("mysql"), f"test_{secrets.token_hex(6)}") as url:
        yield url


@pytest.fixture
async def mysql_url(mysql_server: str) -> AsyncIterator[str]:
    """Return the url of a database that goes with the test."""
    async with mariadb_server.own_database(mysql_server, f"test_{secrets.token_hex(6)}") as url:
        yield url
