"""Reads telemetry frames, without I/O and without a clock (docs/protocol.md 10).

A frame is four ASCII bytes and OTLP as JSON. Published clients deviate from OTLP in many small ways (10.2): values of
the wrong kind become `None`, keys nobody knows are ignored, and only a frame that is no JSON object of the
expected outline is refused. This module must never know sockets, workers or where records are kept.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, cast

import msgspec

from linkly_engine.telemetry.record import LogRecord

LOGS, METRICS, SPANS = "logs", "metrics", "spans"

KINDS = {b"LOGS": LOGS, b"MTRC": METRICS, b"OTLP": SPANS}
"""The first four bytes of a frame -> what it holds."""

MAX_TIME_NS = 2**63 - 1

_LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
_ALIASES = {"WARNING": "WARN", "CRITICAL": "FATAL", "INFORMATION": "INFO"}

_HEX = re.compile("[0-9a-fA-F]+")

_decode_any = msgspec.json.Decoder().decode


class OtlpError(ValueError):
    """A frame that is dropped; the message says why."""


class Point(msgspec.Struct, kw_only=True):
    """One number of a gauge or a sum."""

    name: str
    value: int | float
    attributes: dict[str, Any]
    time_ns: int | None


class Export(msgspec.Struct, kw_only=True):
    """What one frame held.

    Attributes:
        points: The numbers of an `MTRC` frame; histograms are counted only.
    """

    kind: str
    count: int = 0
    logs: list[LogRecord] = []
    points: list[Point] = []


class _Spans(msgspec.Struct):
    spans: list[msgspec.Raw] | None = None


class _ResourceSpans(msgspec.Struct, rename="camel"):
    scope_spans: list[_Spans] | None = None


class _TracesExport(msgspec.Struct, rename="camel"):
    resource_spans: list[_ResourceSpans] | None = None


_traces = msgspec.json.Decoder(_TracesExport)


def read(frame: bytes, room: Callable[[int], int] | None = None, *, now_ns: int = 0) -> Export:
    """Read one frame.

    Args:
        room: Told how many log records there are, says how many are wanted; the first ones are read.
        now_ns: The time of records that bring none along.

    Raises:
        OtlpError: Unknown first bytes, no UTF-8, no JSON, or another outline than an OTLP export has.
    """
    kind = KINDS.get(bytes(frame[:4]))
    if kind is None:
        raise OtlpError(f"a telemetry frame begins with OTLP, MTRC or LOGS, this one with {bytes(frame[:4])!r}")
    try:
        if kind == SPANS:
            return _read_spans(memoryview(frame)[4:])
        export = _object(_decode(frame[4:]))
        if export is None:
            raise OtlpError(f"a frame of {kind} holds a JSON object")
        return _read_logs(export, room, now_ns) if kind == LOGS else _read_metrics(export)
    except (ValueError, RecursionError) as error:
        raise OtlpError(f"not OTLP as JSON: {error}") from error


def _decode(data: bytes) -> Any:
    try:
        return _decode_any(data)
    except msgspec.DecodeError:
        # JavaScript writes half of a surrogate pair as an escape, Python writes NaN: no JSON, but often sent.
        found = json.loads(data, parse_constant=lambda _: None)
        return _decode_any(json.dumps(found, ensure_ascii=False).encode("utf-8", "replace"))


def kind_of(frame: bytes) -> str:
    """Name what a frame says it holds, `unknown` for anything else."""
    return KINDS.get(bytes(frame[:4]), "unknown")


# --- the three kinds ---------------------------------------------------------------------------------------


def _read_spans(data: memoryview) -> Export:
    # Only counted: they carry whole payloads, and nothing keeps them.
    export = _traces.decode(data)
    count = sum(
        len(scope.spans or ()) for resource in export.resource_spans or () for scope in resource.scope_spans or ()
    )
    return Export(kind=SPANS, count=count)


def _read_logs(export: dict[str, Any], room: Callable[[int], int] | None, now_ns: int) -> Export:
    groups = list(_records(export, "resourceLogs", "scopeLogs", "logRecords"))
    count = sum(len(records) for _, _, records in groups)
    left = count if room is None or count == 0 else room(count)
    logs: list[LogRecord] = []
    for resource, scope, records in groups:
        logs += [_log(record, resource, scope, now_ns) for record in records[: left - len(logs)]]
    return Export(kind=LOGS, count=count, logs=logs)


def _read_metrics(export: dict[str, Any]) -> Export:
    points: list[Point] = []
    count = 0
    for _, _, metrics in _records(export, "resourceMetrics", "scopeMetrics", "metrics"):
        for metric in metrics:
            count += 1
            points += _points(metric)
    return Export(kind=METRICS, count=count, points=points)


def _records(
    export: dict[str, Any], resources: str, scopes: str, leaves: str
) -> Iterator[tuple[dict[str, Any], str | None, list[dict[str, Any]]]]:
    """Walk the three levels every export has; what is no list or object on the way is skipped."""
    if not isinstance(export.get(resources), list):
        raise OtlpError(f"`{resources}` is missing or no list")
    for resource in _objects(export[resources]):
        attributes = attributes_of((_object(resource.get("resource")) or {}).get("attributes"))
        for scope in _objects(resource.get(scopes)):
            name = (_object(scope.get("scope")) or {}).get("name")
            yield attributes, name if isinstance(name, str) and name else None, _objects(scope.get(leaves))


def _log(record: dict[str, Any], resource: dict[str, Any], scope: str | None, now_ns: int) -> LogRecord:
    attributes = attributes_of(record.get("attributes"))
    severity, level = severity_of(record.get("severityNumber"), record.get("severityText"))
    observed = time_ns(record.get("observedTimeUnixNano"))
    names = (resource.get("service.name"), attributes.get("service.name"))
    return LogRecord(
        timestamp_unix_nano=time_ns(record.get("timeUnixNano")) or observed or now_ns,
        observed_timestamp_unix_nano=observed or now_ns,
        severity_number=severity,
        severity_text=level,
        body=as_text(value_of(record.get("body"))),
        attributes=attributes,
        trace_id=hex_id(record.get("traceId"), 32) or hex_id(attributes.get("trace_id"), 32),
        span_id=hex_id(record.get("spanId"), 16) or hex_id(attributes.get("span_id"), 16),
        resource=resource,
        service_name=next((name for name in names if isinstance(name, str) and name), "unknown"),
        instrumentation_scope_name=scope,
    )


def _points(metric: dict[str, Any]) -> list[Point]:
    name = metric.get("name")
    series = _object(metric.get("gauge")) or _object(metric.get("sum"))
    if not isinstance(name, str) or series is None:
        return []
    found: list[Point] = []
    for point in _objects(series.get("dataPoints")):
        value = number(point.get("asDouble"))
        if value is None:
            value = number(point.get("asInt"))
        if value is not None:
            attributes = attributes_of(point.get("attributes"))
            # The start time is not looked at: every Python client sends the text "None" there.
            found.append(
                Point(name=name, value=value, attributes=attributes, time_ns=time_ns(point.get("timeUnixNano")))
            )
    return found


# --- values ------------------------------------------------------------------------------------------------


def attributes_of(pairs: object) -> dict[str, Any]:
    """Turn OTLP's list of keys and values into a dict; a plain object is taken as it is."""
    plain = _object(pairs)
    if plain is not None:
        return plain
    return {pair["key"]: value_of(pair.get("value")) for pair in _objects(pairs) if isinstance(pair.get("key"), str)}


def value_of(value: object) -> Any:
    """Turn an OTLP value into plain data; `{}` is null, and what is no OTLP value is taken as it is."""
    fields = _object(value)
    if fields is None:
        return value
    if not fields:
        return None
    if "stringValue" in fields:
        return fields["stringValue"]
    if "boolValue" in fields:
        return fields["boolValue"]
    for key in ("intValue", "doubleValue"):
        if key in fields:
            found = number(fields[key])
            return fields[key] if found is None else found
    if "arrayValue" in fields:
        values = (_object(fields["arrayValue"]) or {}).get("values")
        return [value_of(each) for each in cast("list[object]", values)] if isinstance(values, list) else []
    if "kvlistValue" in fields:
        return attributes_of((_object(fields["kvlistValue"]) or {}).get("values"))
    if "bytesValue" in fields:
        return fields["bytesValue"]
    return fields


def number(value: object) -> int | float | None:
    """Return a JSON number, or the one in a text; `None` for anything else, NaN and the infinities included."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        try:
            value = int(value) if value.lstrip("-").isdecimal() and len(value) < 20 else float(value)
        except ValueError:
            return None
    if isinstance(value, int):
        return value
    return value if isinstance(value, float) and math.isfinite(value) else None


def time_ns(value: object) -> int | None:
    """Return nanoseconds since the epoch; `None` for 0, "None", and what does not fit 63 bits."""
    found = number(value)
    return int(found) if found is not None and 0 < found <= MAX_TIME_NS else None


def hex_id(value: object, digits: int) -> str | None:
    """Return a trace or span id in lower case; `None` for anything else, all zeros included."""
    if not isinstance(value, str) or len(value) != digits:
        return None
    return value.lower() if _HEX.fullmatch(value) and value.strip("0") else None


def severity_of(given: object, text: object) -> tuple[int, str]:
    """Return number and text of a severity, each derived from the other where it is absent."""
    found = number(given)
    severity = int(found) if found is not None and 0 < found <= 24 else 0
    level = level_name(text) if isinstance(text, str) else ""
    if not severity and level in _LEVELS:
        severity = _LEVELS.index(level) * 4 + 1
    if not level and severity:
        level = _LEVELS[(severity - 1) // 4]
    return severity, level


def level_name(text: str) -> str:
    """Return OTLP's name of a level: upper case, WARNING as WARN, CRITICAL as FATAL."""
    upper = text.strip().upper()
    return _ALIASES.get(upper, upper)


def as_text(value: object) -> str:
    """Return a body as text; anything but text as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode()


def _object(value: object) -> dict[str, Any] | None:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _objects(value: object) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        return []
    return [cast("dict[str, Any]", each) for each in cast("list[object]", value) if isinstance(each, dict)]
