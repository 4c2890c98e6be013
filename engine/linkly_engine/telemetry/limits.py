"""How many log lines one source may have: a flood of lines must neither block the loop nor displace the
lines of others.

A source is a worker's connection, a telemetry socket, a caller of `engine::log::*`, or, for lines that come through
stdlib logging, the worker that the line names. Each has a bucket of `BURST` lines that fills at `LINES_PER_S`. What
does not fit is counted, and one line a second tells how many were left out.
"""

from __future__ import annotations

import logging
import threading

import msgspec

from linkly.clock import Clock
from linkly_engine.telemetry.lines import is_kept, worker_of

log = logging.getLogger("linkly.telemetry")

LINES_PER_S, BURST = 1_000, 1_000
REPORT_S = 1.0


class _Bucket(msgspec.Struct):
    name: str
    room: float
    filled_at: float
    left_out: int = 0


class LineLimits:
    """The buckets of all sources.

    Attributes:
        left_out: How many lines were left out, ever.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self._reporting = False
        self.left_out = 0

    def __len__(self) -> int:
        return len(self._buckets)

    def admit(self, source: str, count: int = 1, *, name: str = "") -> int:
        """Return how many of a source's lines may be kept and shown; the others are counted. For the loop's thread.

        Args:
            name: Of the source in the report; default: `source`.
        """
        now = self._clock.monotonic()
        bucket = self._buckets.get(source)
        if bucket is None:
            bucket = self._buckets[source] = _Bucket(name or source, BURST, now)
        else:
            bucket.room = min(BURST, bucket.room + (now - bucket.filled_at) * LINES_PER_S)
            bucket.filled_at = now
            if name:
                bucket.name = name
        admitted = min(count, int(bucket.room))
        bucket.room -= admitted
        if admitted < count:
            bucket.left_out += count - admitted
            self.left_out += count - admitted
        if not self._reporting:
            self._reporting = True
            self._clock.call_later(REPORT_S, self._report)
        return admitted

    def _report(self) -> None:
        self._reporting = False
        full_since = self._clock.monotonic() - BURST / LINES_PER_S
        for source, bucket in list(self._buckets.items()):
            left_out, bucket.left_out = bucket.left_out, 0
            if left_out:
                log.warning(
                    "%d log lines were left out: more than %d a second",
                    left_out,
                    LINES_PER_S,
                    extra={"worker": bucket.name, "data": {"lines": left_out}, "admitted": True},
                )
            elif bucket.filled_at <= full_since:
                del self._buckets[source]  # full again, as a new one
        if self._buckets:
            self._reporting = True
            self._clock.call_later(REPORT_S, self._report)


class LineFilter(logging.Filter):
    """Applies the limits to what goes through stdlib logging: for every handler the same answer.

    Lines of other threads, and lines before there is an engine, pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self._limits: LineLimits | None = None
        self._thread = 0

    def bind(self, limits: LineLimits) -> None:
        """Apply these limits from now on. Called on the loop's thread."""
        self._thread = threading.get_ident()
        self._limits = limits

    def unbind(self) -> None:
        """Let everything pass: the engine has ended."""
        self._limits = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line is written."""
        if self._limits is None or threading.get_ident() != self._thread or is_kept(record):
            return True
        given = record.__dict__
        admitted = given.get("admitted")
        if admitted is None:
            source = str(given.get("worker") or worker_of(record.name))
            admitted = given["admitted"] = self._limits.admit(source) > 0
        return bool(admitted)
