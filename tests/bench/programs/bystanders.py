"""Everybody else while an engine is flooded: `bystanders.py HTTP_PORT`, clicks and `/healthz` at an easy pace."""

from __future__ import annotations

import asyncio
import re
import sys
import time

from turns import percentiles, serve_turns

CLICKERS = 4

PAUSE_S = 0.010
"""Between an answer and the next request of the same client: a pace that an idle engine does not notice."""


async def ask(port: int, path: str, wanted: bytes, seconds: float) -> list[float]:
    """Ask again and again over one connection; return the latencies in seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    latencies: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 " + wanted):
            raise SystemExit(f"{path}: {head[:200]!r}")
        found = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        await reader.readexactly(int(found[1]) if found else 0)
        latencies.append(time.perf_counter() - began)
        await asyncio.sleep(PAUSE_S)  # the client's pace is a part of what is measured
    writer.close()
    return latencies


async def main(port: int) -> None:
    """Click and ask for health when told to."""

    async def turn(seconds: float) -> dict[str, float]:
        clicks = [ask(port, "/s/a", b"302", seconds) for _ in range(CLICKERS)]
        *clicked, health = await asyncio.gather(*clicks, ask(port, "/healthz", b"200", seconds))
        waits = {"click": [wait for each in clicked for wait in each], "healthz": health}
        return {f"{name} {figure}": value for name, each in waits.items() for figure, value in told(each).items()}

    await serve_turns(turn)


def told(waits: list[float]) -> dict[str, float]:
    """Return p50, p99 and the longest, in milliseconds."""
    return {**percentiles(waits), "max ms": max(waits) * 1e3}


asyncio.run(main(int(sys.argv[1])))
