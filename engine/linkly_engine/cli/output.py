"""What the engine writes to stderr: one line a log record, for people or (`--log-format json`) for programs.

stdout belongs to results. Everything goes through stdlib logging; `linkly_engine.telemetry.lines` says what a record
means, this module how it looks. Lines are written by a thread of their own (`linkly_engine.cli.line_writer`).
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
import zlib
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from linkly.timestamps import time_text
from linkly_engine.cli.line_writer import LineWriter
from linkly_engine.telemetry.lines import TRACE_LEVEL, Line, line_of
from linkly_engine.text import one_line, visible, without_ansi

LogFormat = Literal["text", "json"]

QUIET = ("uvicorn", "picows", "asyncio", "watchfiles", "aiosqlite", "anyio", "concurrent")
"""Libraries whose INFO records are of no use to a user."""

WORKER_WIDTH = 10
VALUE_CHARACTERS = 2000
"""A longer value is cut in text output; the store and JSON output have all of it."""

TRACE_CHARACTERS = 8

RESET, BOLD, DIM = "\x1b[0m", "\x1b[1m", "\x1b[2m"
LEVEL_COLOURS = {"INFO": "\x1b[32m", "WARN": "\x1b[33m", "ERROR": "\x1b[31m", "FATAL": "\x1b[1;31m"}
WORKER_COLOURS = tuple(f"\x1b[{code}m" for code in (36, 35, 34, 96, 95, 94))

_PLAIN_VALUE = re.compile(r"[^\s\"'=\[\]{}]+")


def wants_colour(stream_is_terminal: bool) -> bool:
    """Decide about colours: NO_COLOR, then FORCE_COLOR, then whether the stream is a capable terminal."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    return stream_is_terminal and os.environ.get("TERM") != "dumb"


def painter(colour: bool) -> Callable[[str, str], str]:
    """Return what puts a text between an escape sequence and `RESET`; without colour, what leaves it as it is."""
    return (lambda text, code: f"{code}{text}{RESET}") if colour else (lambda text, code: text)


class TextFormatter(logging.Formatter):
    """`14:03:22.123 INFO  link        link resolved  code=iii found=true  trace=797d1234`."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._paint = painter(colour)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; further lines of its message are indented."""
        line = line_of(record)
        seconds, milliseconds = divmod(round(line.time * 1000), 1000)
        clock = f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{milliseconds:03d}"
        worker = one_line(line.worker)
        message = visible(line.message)
        if line.trouble is not None:
            message = f"{message}\n{visible(line.trouble)}"
        first, *more = message.rstrip("\n").split("\n")
        paint = self._paint
        parts = [
            f"{paint(clock, DIM)} {paint(f'{line.level:<5}', LEVEL_COLOURS.get(line.level, DIM))} "
            f"{paint(f'{worker:<{WORKER_WIDTH}}', _worker_colour(worker))}  {first}"
        ]
        if line.data:
            parts.append(" ".join(f"{paint(_key(key) + '=', DIM)}{_value(value)}" for key, value in line.data.items()))
        if line.trace_id:
            parts.append(paint(f"trace={one_line(line.trace_id)[:TRACE_CHARACTERS]}", DIM))
        return "\n".join(["  ".join(parts), *(f"{paint('             |', DIM)} {rest}" for rest in more)])


class JsonFormatter(logging.Formatter):
    """One JSON object a line: timestamp, level, worker, message, data, trace_id, span_id."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object as text."""
        return json_line(line_of(record))


def json_line(line: Line) -> str:
    """Return a line as one JSON object; `stream` and `stacktrace` only where they have a value."""
    fields: dict[str, Any] = {
        "timestamp": time_text(line.time),
        "level": line.level,
        "worker": line.worker,
        "message": without_ansi(line.message),
        "data": line.data,
        "trace_id": line.trace_id,
        "span_id": line.span_id,
    }
    if line.stream is not None:
        fields["stream"] = line.stream
    if line.trouble is not None:
        fields["stacktrace"] = line.trouble
    try:
        return msgspec.json.encode(fields, enc_hook=str).decode()
    except (TypeError, ValueError, RecursionError):  # half a surrogate pair, a key that is no text
        fields["message"] = line.message.encode("utf-8", "replace").decode()
        fields["data"] = {"text": repr(line.data).encode("utf-8", "replace").decode()}
        return msgspec.json.encode(fields, enc_hook=str).decode()


class Output(logging.Handler):
    """The stderr of a running engine, as a logging handler; lines go to `writer`, by default stderr."""

    def __init__(self, log_format: LogFormat, writer: LineWriter | None = None) -> None:
        super().__init__()
        self.log_format: LogFormat = log_format
        self.colour = log_format == "text" and wants_colour(sys.stderr.isatty())
        self._writer = writer or LineWriter(sys.stderr.fileno())
        self._writer.on_dropped = self._dropped
        self._paint = painter(self.colour)
        self.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter(colour=self.colour))

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one line."""
        try:
            self._writer.put(self.format(record))
        except Exception:
            self.handleError(record)

    def say(self, text: str, *, message: str, data: dict[str, Any]) -> None:
        """Write a text for people as it is; in JSON one event in its place."""
        self._event(text, "INFO", message, data)

    def note(self, text: str) -> None:
        """Write a note about the project before it starts."""
        self._event(f"{self._paint('note:', DIM)} {visible(text)}", "INFO", text)

    def fail(self, text: str) -> None:
        """Write why the command ends."""
        self._event(f"{self._paint('Error:', LEVEL_COLOURS['FATAL'])} {visible(text)}", "ERROR", text)

    def _event(self, text: str, level: str, message: str, data: dict[str, Any] | None = None) -> None:
        if self.log_format == "text":
            self._writer.put(text)
        else:
            event = Line(time=time.time(), level=level, worker="engine", message=message, data=data or {})
            self._writer.put(json_line(event))

    def flush(self) -> None:
        """Wait for a moment until everything has been written."""
        self._writer.flush()

    def close(self) -> None:
        """Write what is queued, as far as the reader takes it, and end."""
        self._writer.close()
        super().close()

    def _dropped(self, count: int) -> str:
        line = Line(
            time=time.time(),
            level="WARN",
            worker="engine",
            message="lines were dropped: whoever reads this output is too slow",
            data={"lines": count},
        )
        record = logging.LogRecord("linkly.engine", logging.WARNING, "", 0, line.message, None, None)
        record.linkly_line = line
        return self.format(record)


def log_to(*handlers: logging.Handler, verbose: bool) -> None:
    """Send everything that is logged in this process to these handlers; details only if it is `verbose`."""
    root = logging.getLogger()
    for handler in handlers:
        root.addHandler(handler)
    logging.addLevelName(TRACE_LEVEL, "TRACE")
    root.setLevel(logging.INFO)
    logging.getLogger("linkly").setLevel(TRACE_LEVEL if verbose else logging.INFO)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    # logging looks up thread, process and task for every record; no format shows them.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def _worker_colour(worker: str) -> str:
    return DIM if worker == "engine" else WORKER_COLOURS[zlib.crc32(worker.encode()) % len(WORKER_COLOURS)]


def _key(key: str) -> str:
    return re.sub(r"[\s=\"]", "_", one_line(key))[:100]


def _value(value: object) -> str:
    if isinstance(value, str):
        text = one_line(value)
        if not _PLAIN_VALUE.fullmatch(text):
            text = msgspec.json.encode(text.encode("utf-8", "replace").decode()).decode()
    else:
        try:
            text = one_line(msgspec.json.encode(value, enc_hook=str).decode())
        except (TypeError, ValueError, RecursionError):
            text = one_line(repr(value))
    return text if len(text) <= VALUE_CHARACTERS else f"{text[:VALUE_CHARACTERS]}…"
