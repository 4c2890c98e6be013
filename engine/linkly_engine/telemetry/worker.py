"""`engine::logs::*`, `engine::log::*` and the trigger type `log`, written as an ordinary worker (docs/workers.md)."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import msgspec

from linkly.bus import Invocation, Json
from linkly.context import current
from linkly.delivery import Delivery, Limits
from linkly.errors import InvalidArguments
from linkly.function import function
from linkly.trigger import TriggerType
from linkly.worker import Worker
from linkly_engine.telemetry import lines
from linkly_engine.telemetry.hub import Telemetry
from linkly_engine.telemetry.logs import Entry, LogQuery
from linkly_engine.telemetry.otlp import severity_of
from linkly_engine.telemetry.record import LogRecord

log = logging.getLogger("linkly.telemetry")

LIMITS = Limits(events=256, functions=256)
"""Firings of `log` triggers that may be on their way; more are dropped and counted: a log must not flood its bus."""


class LogLine(msgspec.Struct, kw_only=True):
    """One line to log.

    Attributes:
        message: What happened.
        data: What belongs to it; the keys of an object become attributes.
        trace_id: Default: the trace of the call.
        span_id: Default: the span of the call.
        service_name: Who logs; default: the worker that calls.
    """

    message: str
    data: Any = None
    trace_id: str | None = None
    span_id: str | None = None
    service_name: str | None = None


class LogPage(msgspec.Struct, kw_only=True):
    """Log records.

    Attributes:
        logs: The newest first.
        total: How many there are without offset and limit.
        timestamp: When this was answered, in ms since the epoch.
    """

    logs: list[msgspec.Raw]
    total: int
    timestamp: int


class LogTrigger(msgspec.Struct, kw_only=True):
    """Config of the trigger type `log`.

    Attributes:
        level: Exactly this level; `all`: every record.
    """

    level: Literal["all", "trace", "debug", "info", "warn", "error", "fatal"] = "all"


class TelemetryWorker(Worker):
    """Log functions and log triggers over one engine's telemetry."""

    name = "telemetry"

    def __init__(self, telemetry: Telemetry) -> None:
        super().__init__()
        self._telemetry = telemetry
        self._own_traces = secrets.token_hex(8)
        self._delivery: Delivery[Json] = Delivery(
            "log firings",
            log,
            cause=lambda record: "trigger type log",
            subject=lambda config: config.level,
            ordered=False,
            limits=LIMITS,
        )

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Fire `log` triggers for every record that is kept meanwhile."""
        self._telemetry.on_record = self._kept
        async with self._delivery.running(self.bus, grace_s=0):
            yield

    @property
    def firings_waiting(self) -> int:
        """Count the firings whose functions have not returned."""
        return self._delivery.waiting

    # --- the trigger type `log` ----------------------------------------------------------------------------

    def trigger_types(self) -> list[TriggerType]:
        """Provide `log`."""
        return [
            TriggerType(
                "log",
                "A log record is kept; the function gets it as engine::logs::list shows it.",
                bind=self._delivery.bind,
                unbind=self._delivery.unbind,
                config_type=LogTrigger,
                payload_type=LogRecord,
            )
        ]

    def _kept(self, entry: Entry) -> None:
        # What is logged while a record is delivered carries the delivery's trace: delivering that as well would
        # never end.
        if not self._delivery or (entry.trace_id is not None and entry.trace_id.startswith(self._own_traces)):
            return
        recipients = self._delivery.matching("all", entry.level.lower())
        if recipients:
            trace = f"00-{self._own_traces}{secrets.token_hex(8)}-{secrets.token_hex(8)}-01"
            cause = Invocation(function_id="engine::logs::list", traceparent=trace)
            self._telemetry.firings_dropped += self._delivery.offer(recipients, Json(entry.text), cause=cause)

    # --- functions -----------------------------------------------------------------------------------------

    @function("engine::logs::list")
    async def list_logs(self, query: LogQuery) -> LogPage:
        """List log records of workers and of the engine, the newest first.

        Raises:
            InvalidArguments: Offset or limit is negative.
        """
        for name, value in (("offset", query.offset), ("limit", query.limit)):
            if value is not None and value < 0:
                raise InvalidArguments(f"`{name}` is {value}; it has to be 0 or more")
        found, total = self._telemetry.logs.find(query)
        return LogPage(
            logs=[msgspec.Raw(entry.text) for entry in found],
            total=total,
            timestamp=self._telemetry.now_ns() // 1_000_000,
        )

    @function("engine::logs::clear")
    async def clear_logs(self) -> dict[str, Any]:
        """Forget every log record."""
        count = self._telemetry.logs.clear()
        return {"success": True, "message": f"{count} log records cleared"}

    @function("engine::log::trace")
    async def log_trace(self, line: LogLine) -> None:
        """Log a line at level TRACE."""
        self._log(line, "TRACE")

    @function("engine::log::debug")
    async def log_debug(self, line: LogLine) -> None:
        """Log a line at level DEBUG."""
        self._log(line, "DEBUG")

    @function("engine::log::info")
    async def log_info(self, line: LogLine) -> None:
        """Log a line at level INFO."""
        self._log(line, "INFO")

    @function("engine::log::warn")
    async def log_warn(self, line: LogLine) -> None:
        """Log a line at level WARN."""
        self._log(line, "WARN")

    @function("engine::log::error")
    async def log_error(self, line: LogLine) -> None:
        """Log a line at level ERROR."""
        self._log(line, "ERROR")

    def _log(self, line: LogLine, level: str) -> None:
        invocation = current()
        caller = invocation.caller.worker_name if invocation.caller is not None else ""
        if not self._telemetry.limits.admit(invocation.origin or "engine::log", name=caller):
            return
        trace_id, span_id = line.trace_id, line.span_id
        if not trace_id:
            trace_id, span_id = lines.trace_of(invocation.traceparent)
        service = line.service_name or caller
        now = self._telemetry.now_ns()
        record = LogRecord(
            timestamp_unix_nano=now,
            observed_timestamp_unix_nano=now,
            severity_number=severity_of(None, level)[0],
            severity_text=level,
            body=line.message,
            attributes=lines.as_dict(line.data),
            trace_id=trace_id,
            span_id=span_id,
            resource={"service.name": service} if service else {},
            service_name=service or "unknown",
            instrumentation_scope_name="engine::log",
        )
        self._telemetry.add(record)
        lines.show(record, worker=record.service_name, now=now / 1_000_000_000)
