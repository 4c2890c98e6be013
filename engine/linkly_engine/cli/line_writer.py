"""Writes lines to a file descriptor from a thread of its own, so that a stalled terminal or pipe stalls nobody else.

The queue is bounded; lines that do not fit are counted, and the count is written when there is room again. Writing
goes around Python's buffered streams: a thread stuck in one of those would keep the interpreter from ending.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable

MAX_LINES = 10_000
MAX_CHARACTERS = 8 * 1024 * 1024
FLUSH_S = 1.0
"""How long an ending process waits for its reader."""

BATCH_CHARACTERS = 64 * 1024


class LineWriter:
    """A bounded queue of lines in front of a file descriptor.

    Args:
        descriptor: For example that of stderr; stays open.
        max_lines: How many lines may wait.

    Attributes:
        dropped: How many lines did not fit, ever.
        on_dropped: Makes the line that tells of so many dropped ones.
    """

    def __init__(self, descriptor: int, *, max_lines: int = MAX_LINES) -> None:
        self._descriptor = descriptor
        self._max_lines = max_lines
        self._lines: list[str] = []
        self._characters = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._writing = False
        self._closed = False
        self._broken = False
        self._untold = 0
        self.dropped = 0
        self.on_dropped: Callable[[int], str] = lambda count: f"{count} lines were dropped"

    def put(self, line: str) -> None:
        """Queue a line; never waits for the reader."""
        with self._changed:
            if self._broken or self._closed:
                return
            if len(self._lines) >= self._max_lines or self._characters > MAX_CHARACTERS:
                self.dropped += 1
                self._untold += 1
                return
            self._lines.append(line)
            self._characters += len(line)
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="linkly output", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # a limit of memory or processes: its report is written all the same
                    lines, _ = self._take()
                    self._write("\n".join(lines).encode("utf-8", "replace") + b"\n")
                    return
                self._thread = thread
            self._changed.notify_all()

    def flush(self, timeout_s: float = FLUSH_S) -> bool:
        """Wait until everything is written; answer whether it was within the time."""
        end = time.monotonic() + timeout_s
        with self._changed:
            while self._waits and not self._closed:
                left = end - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            return not self._waits

    @property
    def _waits(self) -> bool:
        return (bool(self._lines) or self._writing) and not self._broken

    def close(self, timeout_s: float = FLUSH_S) -> None:
        """Flush and end the thread; what the reader has not taken by then is lost. May be called twice."""
        self.flush(timeout_s)  # at once the second time: logging closes handlers at exit too
        with self._changed:
            self._closed = True
            thread = self._thread
            self._changed.notify_all()
        if thread is not None:
            thread.join(0.1)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                while not self._lines and not self._closed:
                    self._changed.wait()
                if not self._lines:
                    return
                self._writing = True
                lines, untold = self._take()
            if untold:
                lines.append(self.on_dropped(untold))
            if not self._write("\n".join(lines).encode("utf-8", "replace") + b"\n"):
                with self._changed:
                    self._broken = True
                    self._lines.clear()
                    self._writing = False
                    self._changed.notify_all()
                return

    def _take(self) -> tuple[list[str], int]:
        """Take a batch off the queue; once it is empty, also return how many lines were dropped since."""
        taken = size = 0
        for line in self._lines:
            taken += 1
            size += len(line)
            if size >= BATCH_CHARACTERS:
                break
        lines = self._lines[:taken]
        del self._lines[:taken]
        self._characters -= size
        untold = 0
        if not self._lines:
            untold, self._untold = self._untold, 0
        return lines, untold

    def _write(self, data: bytes) -> bool:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:  # another process made the shared terminal non-blocking
                select.select([], [self._descriptor], [])
            except OSError:  # the reader has closed it
                return False
        return True
