"""A log record, whoever made it: a client's SDK, a caller of `engine::log::*`, or code in this process."""

from __future__ import annotations

from typing import Any

import msgspec


class LogRecord(msgspec.Struct, kw_only=True):
    """One log record, as `engine::logs::list` answers it.

    Attributes:
        timestamp_unix_nano: When it happened.
        observed_timestamp_unix_nano: When the SDK, or the engine, took it.
        severity_number: OTLP's: 1 TRACE, 5 DEBUG, 9 INFO, 13 WARN, 17 ERROR, 21 FATAL.
        severity_text: The level in words.
        body: The message.
        attributes: What was logged beside it; `log.data` holds the data of an SDK's Logger.
        trace_id: Of the call it was logged in; null when unknown.
        span_id: Likewise.
        resource: What is known of the program.
        service_name: Of the program.
        instrumentation_scope_name: What made the record.
    """

    timestamp_unix_nano: int
    observed_timestamp_unix_nano: int
    severity_number: int
    severity_text: str
    body: str
    attributes: dict[str, Any]
    trace_id: str | None = None
    span_id: str | None = None
    resource: dict[str, Any] = {}
    service_name: str = "unknown"
    instrumentation_scope_name: str | None = None
