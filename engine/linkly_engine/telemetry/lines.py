"""One line of the output, whatever it came from: stdlib logging <-> `Line` <-> log record.

Everything that logs in this process uses stdlib `logging`; what a record may carry in `extra`:
`worker` (who says it), `data` (a dict or any JSON value), `trace_id`, `span_id`, `body` (the message without its data),
`stream` (`stdout` or `stderr` of a child), `stacktrace` (of a handler that failed elsewhere). Records of SDKs come as
`LogRecord` and are shown through logging as well.
This module must never know terminals or files.
"""

from __future__ import annotations

import logging
import traceback
from typing import Any, cast

import msgspec

from linkly.context import current_invocation
from linkly_engine.telemetry.otlp import as_text, severity_of
from linkly_engine.telemetry.record import LogRecord

ENGINE = "engine"
WORKERS = "linkly.worker"
"""Logger of worker lines; those of a child process are at `linkly.worker.<its name>`."""

TRACE_LEVEL = 5
"""Below logging.DEBUG."""

PLAUSIBLE_S = 24 * 3600
"""A record whose time is further off than this is shown with the time at which it was received."""

_ENGINE_PARTS = frozenset({"engine", "connection", "websocket", "client", "process", "project", "telemetry", "config"})
_LEVELS = (("TRACE", 10), ("DEBUG", 20), ("INFO", 30), ("WARN", 40), ("ERROR", 50))
"""Name, and the logging level below which it ends."""

_ADDED = frozenset({"trace_id", "span_id", "service.name", "log.data"})

_shown = logging.getLogger(WORKERS)


class Line(msgspec.Struct, kw_only=True):
    """One line of the output.

    Attributes:
        time: Seconds since the epoch.
        message: As it was written, newlines and control characters included.
        trace_id: Of the call it was logged in.
        span_id: Likewise.
        stream: `stdout` or `stderr` for a line of a child process.
    """

    time: float
    level: str
    worker: str
    message: str
    data: dict[str, Any] = {}
    trace_id: str | None = None
    span_id: str | None = None
    stream: str | None = None
    trouble: str | None = None


def line_of(record: logging.LogRecord) -> Line:
    """Return the line of a logging record; it is made once for all handlers."""
    known = getattr(record, "linkly_line", None)
    if isinstance(known, Line):
        return known
    given = record.__dict__
    body = given.get("body")
    trace_id, span_id = given.get("trace_id"), given.get("span_id")
    if trace_id is None:
        invocation = current_invocation.get()
        trace_id, span_id = trace_of(invocation.traceparent if invocation is not None else None)
    line = Line(
        time=record.created,
        level=_level_name(record.levelno),
        worker=str(given.get("worker") or worker_of(record.name)),
        message=body if isinstance(body, str) else _message(record),
        data=as_dict(given.get("data")),
        trace_id=trace_id,
        span_id=span_id,
        stream=given.get("stream"),
        trouble=given.get("stacktrace") or _trouble(record),
    )
    record.linkly_line = line
    return line


def record_of(record: logging.LogRecord) -> LogRecord:
    """Return a logging record as it is kept."""
    line = line_of(record)
    engine = record.name.startswith("linkly") and not record.name.startswith(WORKERS)
    service = "linkly" if engine else line.worker
    attributes: dict[str, Any] = {**line.data, "logger": record.name}
    for key, value in (("exception.stacktrace", line.trouble), ("stream", line.stream)):
        if value is not None:
            attributes[key] = value
    at = int(line.time * 1_000_000_000)
    return LogRecord(
        timestamp_unix_nano=at,
        observed_timestamp_unix_nano=at,
        severity_number=severity_of(None, line.level)[0],
        severity_text=line.level,
        body=line.message,
        attributes=attributes,
        trace_id=line.trace_id,
        span_id=line.span_id,
        resource={"service.name": service},
        service_name=service,
        instrumentation_scope_name=record.name,
    )


def show(record: LogRecord, *, worker: str, now: float) -> None:
    """Show a record of a worker in the output; it is kept already."""
    level = _logging_level(record.severity_number)
    if not _shown.isEnabledFor(level):
        return
    shown = logging.LogRecord(_shown.name, level, "", 0, "%s", (record.body,), None)
    at = record.timestamp_unix_nano / 1_000_000_000
    shown.created = at if abs(at - now) < PLAUSIBLE_S else now
    attributes = record.attributes
    data = {key: value for key, value in attributes.items() if key not in _ADDED}
    shown.kept = True
    shown.linkly_line = Line(
        time=shown.created,
        level=_level_name(level),
        worker=worker,
        message=record.body,
        data={**data, **as_dict(attributes.get("log.data"))},
        trace_id=record.trace_id,
        span_id=record.span_id,
    )
    _shown.handle(shown)


def is_kept(record: logging.LogRecord) -> bool:
    """Return whether a logging record was made by `show`: it is in the store."""
    return bool(getattr(record, "kept", False))


def program(record: LogRecord) -> str:
    """Name the program of a record: what its Logger calls itself, else its service."""
    name = record.attributes.get("service.name")
    return name if isinstance(name, str) and name else record.service_name


def trace_of(traceparent: str | None) -> tuple[str | None, str | None]:
    """Return trace and span id of a valid traceparent."""
    parts = (traceparent or "").split("-")
    return (parts[1], parts[2]) if len(parts) == 4 else (None, None)


def worker_of(logger: str) -> str:
    """Return the worker that a logger belongs to: x of `linkly.worker.x`, state of `linkly.state`."""
    if logger.startswith(f"{WORKERS}."):
        return logger[len(WORKERS) + 1 :]
    first, _, rest = logger.partition(".")
    if first != "linkly":
        return first
    part = rest.partition(".")[0]
    return ENGINE if not part or part in _ENGINE_PARTS else part


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # arguments that do not fit the text: keep the line all the same
        return f"{record.msg} {record.args} ({error})"


def _trouble(record: logging.LogRecord) -> str | None:
    if record.exc_info and record.exc_info[0] is not None:
        return "".join(traceback.format_exception(*record.exc_info)).rstrip()
    return record.exc_text or None


def as_dict(data: object) -> dict[str, Any]:
    """Return what was logged beside a message as keys and values."""
    if data is None:
        return {}
    if isinstance(data, dict):
        return {str(key): value for key, value in cast("dict[object, Any]", data).items()}
    return {"data": data if isinstance(data, (int, float, str, list)) else as_text(str(data))}


def _level_name(levelno: int) -> str:
    return next((name for name, below in _LEVELS if levelno < below), "FATAL")


def _logging_level(severity: int) -> int:
    if severity == 0:
        return logging.INFO
    return (TRACE_LEVEL, 10, 20, 30, 40, 50)[(severity - 1) // 4]
