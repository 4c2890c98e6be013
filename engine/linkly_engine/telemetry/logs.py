"""The newest log records, in memory, and how to find one.

A record is kept as its JSON text beside the few fields a filter looks at: a listing splices the texts together and
decodes nothing. Bounded by number and by bytes; the oldest goes first. One thread only: whoever logs from another
one hands the record over (`linkly_engine.telemetry.capture`).
"""

from __future__ import annotations

from collections import deque

import msgspec

from linkly_engine.telemetry.otlp import level_name, severity_of
from linkly_engine.telemetry.record import LogRecord
from linkly_engine.text import without_ansi

MAX_RECORDS = 10_000
MAX_BYTES = 16 * 1024 * 1024
BODY_CHARACTERS = 64 * 1024
"""A longer body is cut."""

ATTRIBUTES_BYTES = 256 * 1024
"""A record that is larger than this keeps its body only; a note takes the place of its attributes."""

TRACE_BEGINNING = 8
"""A query needs to give only so many characters of a trace id."""

ENTRY_BYTES = 300
"""What an entry takes beside its text (measured)."""


class LogQuery(msgspec.Struct, kw_only=True):
    """Which records; a record has to fit everything that is given.

    Attributes:
        start_time: Not older than this, in ms since the epoch.
        end_time: Not newer than this, in ms since the epoch.
        trace_id: Of this trace; the first eight characters, as a line of the output shows them, are enough.
        error_id: About this error, as a response of the gateway or a line of the output shows it.
        span_id: Of this span.
        severity_min: At least this severity: a number (9 is INFO, 13 WARN, 17 ERROR) or a name.
        severity_text: Exactly this level, in upper or lower case.
        offset: How many of the newest to leave out.
        limit: How many at most; default: all.
    """

    start_time: int | float | None = None
    end_time: int | float | None = None
    trace_id: str | None = None
    error_id: str | None = None
    span_id: str | None = None
    severity_min: int | float | str | None = None
    severity_text: str | None = None
    offset: int = 0
    limit: int | None = None

    def lowest(self) -> float:
        """Return `severity_min` as a number; 0 for a name nobody knows lets everything through."""
        if isinstance(self.severity_min, str):
            return severity_of(None, self.severity_min)[0]
        return self.severity_min or 0


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A kept record: what filters look at, and its JSON text."""

    time_ns: int
    severity: int
    level: str
    trace_id: str | None
    span_id: str | None
    text: bytes

    def fits(self, query: LogQuery, lowest: float, level: str | None) -> bool:
        """Return whether a query matches this record."""
        return (
            self.severity >= lowest
            and (level is None or self.level == level)
            and (query.trace_id is None or _is_trace(self.trace_id, query.trace_id))
            and (query.error_id is None or b'"error_id":' + msgspec.json.encode(query.error_id) in self.text)
            and (query.span_id is None or self.span_id in (query.span_id, query.span_id.lower()))
            and (query.start_time is None or self.time_ns >= query.start_time * 1_000_000)
            and (query.end_time is None or self.time_ns <= query.end_time * 1_000_000)
        )


class LogStore:
    """A bounded list of records.

    Attributes:
        dropped: Records that were removed to make room.
    """

    def __init__(self, *, max_records: int = MAX_RECORDS, max_bytes: int = MAX_BYTES) -> None:
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._entries: deque[Entry] = deque()
        self.bytes = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, record: LogRecord) -> Entry:
        """Keep a record; return it as it is kept."""
        text = _encoded(record)
        entry = Entry(
            record.timestamp_unix_nano,
            record.severity_number,
            record.severity_text,
            record.trace_id,
            record.span_id,
            text,
        )
        self._entries.append(entry)
        self.bytes += len(text) + ENTRY_BYTES
        while len(self._entries) > self._max_records or (self.bytes > self._max_bytes and len(self._entries) > 1):
            self.bytes -= len(self._entries.popleft().text) + ENTRY_BYTES
            self.dropped += 1
        return entry

    def find(self, query: LogQuery) -> tuple[list[Entry], int]:
        """Return the records a query asks for, newest first, and how many there are before `offset` and `limit`."""
        lowest = query.lowest()
        level = None if query.severity_text is None else level_name(query.severity_text)
        found = [entry for entry in reversed(self._entries) if entry.fits(query, lowest, level)]
        # Batches of several programs come in late and interleaved: their own time orders them.
        found.sort(key=_time, reverse=True)
        end = None if query.limit is None else query.offset + query.limit
        return found[query.offset : end], len(found)

    def clear(self) -> int:
        """Forget every record; return how many there were."""
        count = len(self._entries)
        self._entries.clear()
        self.bytes = 0
        return count


def _is_trace(trace_id: str | None, wanted: str) -> bool:
    if trace_id is None:
        return False
    return trace_id in (wanted, wanted.lower()) or (
        TRACE_BEGINNING <= len(wanted) < len(trace_id) and trace_id.startswith(wanted.lower())
    )


def _time(entry: Entry) -> int:
    return entry.time_ns


def _encoded(record: LogRecord) -> bytes:
    """Return a record's JSON text, cut to what is kept of one."""
    record.body = without_ansi(record.body)
    if len(record.body) > BODY_CHARACTERS:
        over = len(record.body) - BODY_CHARACTERS
        record.body = f"{record.body[:BODY_CHARACTERS]}… ({over} more characters)"
    try:
        text = msgspec.json.encode(record, enc_hook=str)
        if len(text) <= ATTRIBUTES_BYTES:
            return text
        note = f"attributes of {len(text)} bytes were left out"
    except (TypeError, ValueError, RecursionError) as error:  # an attribute or the body has no JSON form
        note = f"attributes were left out: {error}"
    record.body = record.body.encode("utf-8", "replace").decode()
    record.attributes, record.resource = {"linkly.note": note.encode("utf-8", "replace").decode()}, {}
    return msgspec.json.encode(record)
