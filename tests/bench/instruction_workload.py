"""Work whose instructions are counted: redirects, remote calls and triggers, each between two marks.

    python tests/bench/instruction_workload.py ROUNDS

`instructions.py` runs it under callgrind, with linkly of one checkout. Everything is in one process: the engine, its
workers, a real SQLite file, and the clients, over real sockets. Whoever counts sees a mark as a call of `MARK` in libc:
one before and one behind each part, in the order of `PARTS`.

What would not repeat is kept out. `IN_FLIGHT` callers work in step, so that batches are equally large each time. The
collector rests. And the product sees time pass more slowly: under callgrind everything takes some fifty times as long,
and a writer to whom the disk seems slow hands its commits to a thread.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

PARTS = ("redirect", "remote call", "remote call, JSON", "trigger")
MARK = "getpgid"
SLOWER = 64
"""By which time passes more slowly."""

IN_FLIGHT = 16
WARM = 10
"""Rounds before the first mark, of `IN_FLIGHT` operations each."""

MORE_TRIGGERS = 10
"""For each redirect or call: they cost a tenth."""

REQUEST = b"GET /s/a HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: bench\r\n\r\n"
ANSWER = b"HTTP/1.1 302"

Round = Callable[[], Awaitable[None]]


def slow_down_time() -> None:
    """Let time pass more slowly for all that is imported afterwards."""
    for name in ("perf_counter", "monotonic", "thread_time"):
        real: Callable[[], float] = getattr(time, name)
        setattr(time, name, lambda real=real: real() / SLOWER)


class Visitor:
    """One keep-alive connection to the gateway."""

    def __init__(self, port: int, answered: Callable[[], None]) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setblocking(False)
        self._answered = answered
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def ask(self) -> None:
        """Send a request."""
        self._socket.send(REQUEST)

    def close(self) -> None:
        """Leave."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _read(self) -> None:
        answer = self._socket.recv(65536)
        if not (answer.startswith(ANSWER) and answer.endswith(b"\r\n\r\n")):
            raise SystemExit(f"not one redirect: {answer[:300]!r}")
        self._answered()


@asynccontextmanager
async def redirects(bus: Any, port: int) -> AsyncIterator[Round]:
    """Yield what asks for one redirect over each of `IN_FLIGHT` connections; at the end each has to be counted."""
    await bus.trigger("link::create", {"url": "https://a.example", "code": "a"})
    left, asked, done = 0, 0, asyncio.Event()

    def answered() -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    visitors = [Visitor(port, answered) for _ in range(IN_FLIGHT)]

    async def ask() -> None:
        nonlocal left, asked
        left = IN_FLIGHT
        asked += IN_FLIGHT
        done.clear()
        for visitor in visitors:
            visitor.ask()
        await done.wait()

    yield ask
    for visitor in visitors:
        visitor.close()
    sql = "SELECT clicks, (SELECT COUNT(*) FROM clicks) AS written FROM links WHERE code = 'a'"
    [counted] = (await bus.trigger("database::query", {"sql": sql}))["rows"]
    if counted != {"clicks": asked, "written": asked}:
        raise SystemExit(f"{asked} redirects, {counted} in the database")


def in_step(call: Callable[[], Awaitable[Any]]) -> Round:
    """Return what makes one call for each of `IN_FLIGHT` callers."""

    async def ask() -> None:
        await asyncio.gather(*(call() for _ in range(IN_FLIGHT)))

    return ask


async def count(rounds: int, ask: Round) -> None:
    """Run so many rounds between two marks."""
    for _ in range(WARM):
        await ask()
    gc.collect()
    os.getpgid(0)
    for _ in range(rounds):
        await ask()
    os.getpgid(0)


async def work(folder: Path, rounds: int) -> None:
    """Do every part."""
    from linkly import Client, Worker, function
    from linkly.wire import dialer
    from linkly.worker import running
    from linkly_engine.engine import Engine
    from linkly_engine.remote.server import WorkerServer
    from linkly_workers.database import DatabaseWorker
    from linkly_workers.http import HttpWorker
    from linkly_workers.link import LinkWorker
    from linkly_workers.state import StateWorker

    class Echo(Worker):
        name = "bench"

        @function("bench::echo")
        async def echo(self, payload: dict[str, Any]) -> dict[str, Any]:
            return payload

    # The other side of the comparison may be an older checkout, which has another name for it.
    port_dialer: Any = getattr(dialer, "PortDialer", None) or vars(dialer)["WebSocketDialer"]
    payload = {"code": "a", "url": "https://a.example", "clicks": 1}
    database = DatabaseWorker.from_config({"databases": {"primary": {"url": f"sqlite:{folder}/links.db"}}})
    gateway: Any = HttpWorker.from_config({"port": 0})
    async with Engine() as engine:
        await engine.start([StateWorker.from_config(), database, gateway, LinkWorker.from_config()])
        bus = engine.bus("bench")
        async with redirects(bus, int(gateway.url.rpartition(":")[2])) as ask:
            await count(rounds, ask)
        server = WorkerServer(engine, port=0)
        await server.start()
        for native in (True, False):
            callee, caller = (
                Client(server.url, name=name, dialer=port_dialer(server.url, native=native))
                for name in ("callee", "caller")
            )
            async with callee, caller, running(Echo(), callee, alone=False):
                await callee.trigger("bench::echo", payload)  # behind its registration
                await count(rounds, in_step(partial(caller.trigger, "bench::echo", payload)))
        await server.stop()
        await engine.start([Echo()])
        call = partial(bus.trigger, "bench::echo", payload)

        async def ask_alone() -> None:
            for _ in range(IN_FLIGHT):
                await call()

        await count(rounds * MORE_TRIGGERS, ask_alone)


if __name__ == "__main__":
    slow_down_time()
    gc.disable()
    import uvloop

    with tempfile.TemporaryDirectory() as made:
        uvloop.run(work(Path(made), int(sys.argv[1])))
