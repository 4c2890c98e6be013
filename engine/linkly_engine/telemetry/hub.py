"""Takes telemetry in: frames of workers and records of the engine go to the store, to the output and to triggers.

Log records are kept (`logs`) and shown; of metrics the newest gauges of each worker are kept; spans are only
counted. A bad frame is counted and dropped; a connection never gets an error.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from linkly.clock import Clock
from linkly_engine.telemetry import lines
from linkly_engine.telemetry.limits import LineLimits
from linkly_engine.telemetry.logs import Entry, LogStore
from linkly_engine.telemetry.metrics import WorkerGauges
from linkly_engine.telemetry.otlp import LOGS, METRICS, SPANS, OtlpError, kind_of, read
from linkly_engine.telemetry.record import LogRecord

log = logging.getLogger("linkly.telemetry")


class FrameCounts(msgspec.Struct):
    """What came in of one kind."""

    frames: int = 0
    records: int = 0
    dropped: int = 0


class Telemetry:
    """All telemetry of one engine.

    Args:
        clock: For records that bring no time along.

    Attributes:
        firings_dropped: How often a `log` trigger did not fire because too many firings were on their way.
        on_record: Told of every record that was kept; set by who provides the trigger type `log`.
    """

    def __init__(self, clock: Clock, is_connected: Callable[[str], bool]) -> None:
        self._clock = clock
        self.logs = LogStore()
        self.limits = LineLimits(clock)
        self.gauges = WorkerGauges(is_connected)
        self.counts = {kind: FrameCounts() for kind in (LOGS, METRICS, SPANS, "unknown")}
        self.firings_dropped = 0
        self.on_record: Callable[[Entry], None] | None = None

    def ingest(self, frame: bytes, worker: Callable[[], str] | None = None, *, source: str = "telemetry") -> None:
        """Take one frame of a telemetry socket, or a binary one of a worker's own.

        Args:
            worker: Names the worker whose socket it came on, `""` if unknown.
            source: Whose log lines share a limit: the socket.
        """
        name = worker() if worker is not None else ""
        counts = self.counts[kind_of(frame)]
        counts.frames += 1
        try:
            export = read(frame, lambda count: self.limits.admit(source, count, name=name), now_ns=self.now_ns())
        except OtlpError as error:
            counts.dropped += 1
            log.debug("dropped a telemetry frame of %d bytes: %s", len(frame), error)
            return
        counts.records += export.count
        if export.points:
            self.gauges.add(export.points, self.now_ns() // 1_000_000)
        for record in export.logs:
            attributes = record.attributes
            # Every client leaves one or another of these out, and readers look for all of them.
            for key, value in (
                ("trace_id", record.trace_id),
                ("span_id", record.span_id),
                ("service.name", record.service_name),
            ):
                if value is not None and not attributes.get(key):
                    attributes[key] = value
            self.add(record)
            lines.show(record, worker=name or lines.program(record), now=self._clock.time())

    def add(self, record: LogRecord) -> None:
        """Keep a record and tell the `log` triggers."""
        entry = self.logs.add(record)
        if self.on_record is not None:
            self.on_record(entry)

    def now_ns(self) -> int:
        """Return the time in nanoseconds."""
        return int(self._clock.time() * 1_000_000_000)

    def statistics(self) -> dict[str, object]:
        """Return counts and fill levels for `engine::statistics`."""
        return {
            **{kind: msgspec.structs.asdict(counts) for kind, counts in self.counts.items()},
            "log_records_kept": len(self.logs),
            "log_bytes_kept": self.logs.bytes,
            "log_records_displaced": self.logs.dropped,
            "log_lines_left_out": self.limits.left_out,
            "log_firings_dropped": self.firings_dropped,
            "workers_with_gauges": len(self.gauges),
        }
