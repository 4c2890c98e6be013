"""Every worker's tests run in process and over the wire: it has to behave the same."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from linkly import Bus, Worker
from linkly.schema import read_settings
from linkly.testing import running_engine, settle
from linkly_workers.database import DatabaseWorker
from linkly_workers.http import HttpSettings, HttpWorker
from linkly_workers.link import LinkSettings, LinkWorker
from linkly_workers.state import StateSettings, StateWorker
from support.database_calls import database_worker
from support.database_servers import MARIADB, POSTGRES, Server
from support.queue_workers import URLS as QUEUE_URLS
from support.queue_workers import running_queue, url_of
from support.state_stores import KINDS, URLS

Run = Callable[..., AbstractAsyncContextManager[Bus]]


TRANSPORTS = ("in process", "native wire")
"""Frames of both framings carry the same bytes of a payload: only a worker's first file runs over JSON as well."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give `run` the transports that the module's mark lists."""
    if "run" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("transports")
        metafunc.parametrize("run", mark.args if mark is not None else TRANSPORTS, indirect=True)


@pytest.fixture
def run(request: pytest.FixtureRequest) -> Run:
    """Return what runs an engine with the workers given."""

    def start(*workers: Worker, **options: Any) -> AbstractAsyncContextManager[Bus]:
        wire, native = request.param != "in process", request.param != "json wire"
        return running_engine(*workers, wire=wire, native=native, **options)

    start.framing = {"native wire": "native", "json wire": "json"}.get(request.param)  # type: ignore[attr-defined]
    return start


@pytest.fixture(params=KINDS)
def kind_of_state(request: pytest.FixtureRequest) -> str:
    """Name one of the stores of state."""
    return str(request.param)


@pytest.fixture
def url_of_state(request: pytest.FixtureRequest, kind_of_state: str, tmp_path: Path) -> str:
    """Return the url of the database that such a store is in, if it is in one."""
    if kind_of_state in URLS:
        return str(request.getfixturevalue(URLS[kind_of_state]))
    return f"sqlite:{tmp_path}/state.db"


@pytest.fixture
def state(kind_of_state: str, url_of_state: str, tmp_path: Path) -> Callable[..., list[Worker]]:
    """Return what makes a state worker and what it needs beside it; all that it makes are over one store."""

    def make(**settings: Any) -> list[Worker]:
        if kind_of_state == "file":
            kv = {"store_method": "file_based", "file_path": str(tmp_path / "kv")}
            settings["adapter"] = {"name": "kv", "config": kv}
        elif kind_of_state != "memory":
            settings["adapter"] = {"name": "database", "config": {"db": "primary"}}
        workers: list[Worker] = [StateWorker(read_settings(StateSettings, settings, "$"))]
        if kind_of_state.startswith("database"):
            workers.append(database_worker(url_of_state))
        return workers

    make.durable = kind_of_state != "memory"  # type: ignore[attr-defined]
    return make


@pytest.fixture(params=["file", "memory"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> DatabaseWorker:
    """Make a worker with one database."""
    url = f"sqlite:{tmp_path}/a.db" if request.param == "file" else "sqlite::memory:"
    return database_worker(url)


@pytest.fixture(scope="module", params=["postgres", "mariadb"])
def kind(request: pytest.FixtureRequest) -> Server:
    """Return each kind of server that tests may start and kill."""
    kind = {"postgres": POSTGRES, "mariadb": MARIADB}[request.param]
    if kind.missing is not None:
        pytest.skip(kind.missing)
    return kind


@pytest.fixture
def shortener(run: Run, tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, Bus]]]:
    """Return what runs the link worker and the three it stands on; yields an HTTP client and the bus."""

    @asynccontextmanager
    async def start(
        settings: dict[str, Any] | None = None, **options: Any
    ) -> AsyncIterator[tuple[httpx.AsyncClient, Bus]]:
        database = database_worker(f"sqlite:{tmp_path}/links.db")
        gateway = HttpWorker(read_settings(HttpSettings, {"port": 0}, "$"))
        link = LinkWorker(read_settings(LinkSettings, settings, "$"))
        async with (
            run(StateWorker(), database, gateway, link, **options) as bus,
            httpx.AsyncClient(verify=False) as client,
        ):
            await settle()
            client.base_url = gateway.url
            yield client, bus

    return start


@pytest.fixture(params=QUEUE_URLS)
def url_of_queue(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the url of an empty database of each kind that a queue can be in."""
    return url_of(request.param, request, tmp_path)


@pytest.fixture(params=["in process", "over a wire"])
def running_queues(request: pytest.FixtureRequest, url_of_queue: str) -> Run:
    """Return what runs queues both ways, on a database of their own."""

    def start(*workers: Worker, **settings: Any) -> AbstractAsyncContextManager[Bus]:
        return running_queue(url_of_queue, *workers, wire=request.param == "over a wire", **settings)

    return start
