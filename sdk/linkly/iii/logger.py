"""Structured log lines in iii's shape: shown by stdlib `logging` here, and kept and shown by the engine.

A line goes to the engine over the worker that this program registered last (`senders`); in the engine's own process
there is none, and the engine takes the line from stdlib `logging`. Logging never waits and never fails.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgspec

from linkly.context import current_invocation

Send = Callable[[str, dict[str, Any]], bool]

senders: list[Send] = []
"""Of the workers of this program that are connected or connecting, the newest last: each takes a level and what
`engine::log::*` wants, and answers whether it took the line."""

_LEVELS = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warn", logging.ERROR: "error"}


class Logger:
    """Structured log lines: a message and a dict.

    Args:
        trace_id: Default: that of the call that is being handled.
        service_name: Who logs; default: the worker's name.
        span_id: Default: that of the call that is being handled.
    """

    def __init__(
        self, trace_id: str | None = None, service_name: str | None = None, span_id: str | None = None
    ) -> None:
        self._logger = logging.getLogger(service_name or "linkly.worker")
        self._service_name = service_name
        self._trace = (trace_id, span_id)

    def info(self, message: str, data: Any = None) -> None:
        """Log what happened."""
        self._log(logging.INFO, message, data)

    def warn(self, message: str, data: Any = None) -> None:
        """Log what may be wrong."""
        self._log(logging.WARNING, message, data)

    def error(self, message: str, data: Any = None) -> None:
        """Log what went wrong."""
        self._log(logging.ERROR, message, data)

    def debug(self, message: str, data: Any = None) -> None:
        """Log a detail."""
        self._log(logging.DEBUG, message, data)

    def _log(self, level: int, message: str, data: Any) -> None:
        message = str(message)
        text = message
        if data is not None:
            data, written = _plain(data)
            text = f"{message} {written}"
        trace_id, span_id = self._trace if self._trace[0] is not None else _current_trace()
        # Under `log.data`, where iii's Logger puts it: whoever reads the engine's log records finds them all alike.
        kept = None if data is None else {"log.data": data}
        line = {"message": message, "data": kept, "trace_id": trace_id, "span_id": span_id}
        if self._service_name is not None:
            line["service_name"] = self._service_name
        sent = bool(senders) and senders[-1](_LEVELS[level], line)
        # Without any logging set up, stdlib would print warnings to stderr: the engine shows the line already.
        if self._logger.hasHandlers() or not sent:
            shown = {"body": message, "data": data, "trace_id": trace_id, "span_id": span_id}
            self._logger.log(level, "%s", text, extra=shown)


def _plain(data: Any) -> tuple[Any, str]:
    """Return a copy of data as JSON has it, and its text: the program may change its object at once."""
    try:
        encoded = msgspec.json.encode(data, enc_hook=str)
        return msgspec.json.decode(encoded), encoded.decode()
    except (TypeError, ValueError, RecursionError):
        text = repr(data).encode("utf-8", "replace").decode()
        return text, text


def _current_trace() -> tuple[str | None, str | None]:
    invocation = current_invocation.get()
    parts = (invocation.traceparent or "").split("-") if invocation is not None else []
    return (parts[1], parts[2]) if len(parts) == 4 else (None, None)
