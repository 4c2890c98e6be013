"""Load over HTTP where there is no wrk, and wherever every answer has to be counted: `http_load.py PORT METHOD PATH`.

Every connection asks again as soon as it is answered. At the end each waits for its last answer, so that what the
server has done and what was counted here are equal. (wrk drops what is under way.)
"""

from __future__ import annotations

import asyncio
import sys
import time

import uvloop
from turns import percentiles, serve_turns

GIVE_UP_S = 30.0


class Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(
        self, request: bytes, until: float, waits: list[float], busy: set[Connection], idle: asyncio.Event
    ) -> None:
        self._request, self._until, self._waits, self._busy, self._idle = request, until, waits, busy, idle
        self._head = request.startswith(b"HEAD")
        self._got = b""
        busy.add(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask first."""
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Take an answer and ask again, until the time is over."""
        self._got += data
        head, ended, body = self._got.partition(b"\r\n\r\n")
        if not ended:
            return
        if head[9:10] not in b"23":
            raise SystemExit(f"refused: {self._got[:300]!r}")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if not self._head and len(body) < int(length or 0):
            return
        self._got = b""
        now = time.perf_counter()
        self._waits.append(now - self._asked)
        if now < self._until:
            self._ask()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """Be counted as idle."""
        self._busy.discard(self)
        if not self._busy:
            self._idle.set()

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        self._transport.write(self._request)  # type: ignore[attr-defined]


async def main(port: int, method: str, path: str) -> None:
    """Load when told to."""
    request = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()

    async def turn(connections: int, seconds: float) -> dict[str, float]:
        waits: list[float] = []
        busy, idle = set[Connection](), asyncio.Event()
        started = time.perf_counter()
        for _ in range(connections):
            await asyncio.get_running_loop().create_connection(
                lambda: Connection(request, started + seconds, waits, busy, idle), "127.0.0.1", port
            )
        await asyncio.wait_for(idle.wait(), seconds + GIVE_UP_S)
        return {"count": len(waits), "seconds": time.perf_counter() - started, **percentiles(waits)}

    await serve_turns(turn)


uvloop.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
