"""Structured log lines in iii's shape."""

from __future__ import annotations

import logging
from typing import Any

import msgspec


class Logger:
    """Structured log lines: a message and a dict."""

    def __init__(
        self, trace_id: str | None = None, service_name: str | None = None, span_id: str | None = None
    ) -> None:
        self._logger = logging.getLogger(service_name or "linkly.worker")
        self._context = {"trace_id": trace_id, "span_id": span_id}

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
        text = message if data is None else f"{message} {msgspec.json.encode(data, enc_hook=str).decode()}"
        self._logger.log(level, "%s", text, extra={"data": data, **self._context})
