"""Turns of programs whose callers are threads: the same loop as `turns.closed_loop`, one thread each."""

import json
import sys
import threading
import time
from collections.abc import Callable

from turns import percentiles


def closed_loop(call: Callable[[], object], threads: int, seconds: float) -> dict[str, float]:
    """Let so many threads call for a while."""
    clock = time.perf_counter
    waits: list[float] = []
    started = clock()
    end = started + seconds

    def caller() -> None:
        while (before := clock()) < end:
            call()
            waits.append(clock() - before)

    running = [threading.Thread(target=caller) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return {"count": len(waits), "seconds": clock() - started, **percentiles(waits)}


def calls(call: Callable[[], object], threads: int, count: int) -> dict[str, float]:
    """Let so many threads make so many calls together."""
    left = iter(range(count))
    lock = threading.Lock()
    started = time.perf_counter()

    def caller() -> None:
        while True:
            with lock:
                if next(left, None) is None:
                    return
            call()

    running = [threading.Thread(target=caller) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return {"count": count, "seconds": time.perf_counter() - started}


def serve_turns(call: Callable[[], object]) -> None:
    """Say that this program is ready; then call for `seconds`, or `calls` times, whenever a line asks for it."""
    print(json.dumps({}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if "calls" in asked:
            figures = calls(call, asked["threads"], asked["calls"])
        else:
            figures = closed_loop(call, asked["threads"], asked["seconds"])
        print(json.dumps(figures), flush=True)
