"""What a worker's scripts write: lines to log files and to `logging`, as `linkly.worker.NAME`.

`Lines` does no I/O. Lines are bounded and hold no control characters. Colours stay in the log files only.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from pathlib import Path

from linkly_engine.process.log_file import LogFile, tail
from linkly_engine.text import ESCAPE_SEQUENCE

LINE_BYTES = 64 * 1024
RECENT = 60
"""Lines of each stream that are remembered: a Node program's error stands above its stack and npm's own lines."""
STREAMS = ("stdout", "stderr")

_COLOUR = re.compile(r"\x1b\[[0-9;:]*m\Z")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1a\x1c-\x1f\x7f-\x9f\u2028\u2029]")
_ALL_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


_LEVELS = {"TRACE": 5, "DEBUG": 10, "INFO": 20, "WARN": 30, "WARNING": 30, "ERROR": 40, "CRITICAL": 50, "FATAL": 50}
_LEVEL = re.compile(r"(?:\[(TRACE|DEBUG|INFO|WARN|WARNING|ERROR|CRITICAL|FATAL)\]|"
                    r"(TRACE|DEBUG|INFO|WARN|WARNING|ERROR|CRITICAL|FATAL)(?=[:\s]))[:\s]*")  # fmt: skip
_CLOCK = re.compile(r"\[?[\d:.,T/+Z-]+(?: [\d:.,]+)?\]?\s+")


def level_and_text(line: str) -> tuple[int, str]:
    """Return the logging level that a line begins with, and the rest of it; INFO for a line that names none.

    Python's logging writes `ERROR:name:text`, most set-ups `ERROR text` or `[ERROR] text`, some a time before it.
    """
    clock = _CLOCK.match(line)
    start = clock.end() if clock else 0
    found = _LEVEL.match(line, start)
    if found is None or found.end() == len(line):
        return logging.INFO, line
    level = _LEVELS[found[1] or found[2]]
    return level, line[found.end() :] if start == 0 else line


class Lines:
    """Bytes in, lines out; a line that is too long is cut into several."""

    def __init__(self, limit: int = LINE_BYTES) -> None:
        self._limit = limit
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """Take bytes as they came; return the lines that are complete, coloured as they were."""
        parts = (self._rest + data).split(b"\n")
        self._rest = parts.pop()
        while len(self._rest) > self._limit:
            parts.append(self._rest[: self._limit])
            self._rest = self._rest[self._limit :]
        return [line for part in parts for line in self._cut(part)]

    def finish(self) -> list[str]:
        """The stream has ended: return what came without a line end."""
        rest, self._rest = self._rest, b""
        return self._cut(rest) if rest else []

    def _cut(self, part: bytes) -> list[str]:
        pieces = [part[start : start + self._limit] for start in range(0, len(part) or 1, self._limit)]
        return [_clean(piece.decode("utf-8", "replace")) for piece in pieces]


def without_colours(line: str) -> str:
    """Return a line without any escape sequence."""
    return _ALL_CONTROL.sub("", ESCAPE_SEQUENCE.sub("", line)) if "\x1b" in line else line


def _clean(line: str) -> str:
    if "\x1b" in line:
        line = ESCAPE_SEQUENCE.sub(lambda found: found[0] if _COLOUR.match(found[0]) else "", line)
    return _CONTROL.sub("", line)


class Output:
    """Takes everything that a worker writes, of all its generations; `folder` is that of its log files."""

    def __init__(self, name: str, folder: Path) -> None:
        self.folder = folder
        self._files = {stream: LogFile(folder / f"{stream}.log") for stream in STREAMS}
        self._log = logging.getLogger(f"linkly.worker.{name}")

    def write(self, stream: str, lines: list[str]) -> None:
        """Keep and show lines of `stdout` or `stderr`."""
        if not lines:
            return
        self._files[stream].write(lines)
        for line in map(without_colours, lines):
            if line.strip():  # a blank line separates in the file and says nothing in the log
                level, text = level_and_text(line)
                self._log.log(level, "%s", text, extra={"stream": stream})

    def tail(self, count: int) -> tuple[list[str], list[str]]:
        """Return the last lines of stdout and of stderr."""
        stdout, stderr = (tail(self.folder / f"{stream}.log", count) for stream in STREAMS)
        return stdout, stderr

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()


class Feed:
    """The output of one process, on its way into an `Output`."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._lines = {stream: Lines() for stream in STREAMS}
        self._recent = {stream: deque[str](maxlen=RECENT) for stream in STREAMS}

    def feed(self, stream: str, data: bytes) -> None:
        """Take bytes of `stdout` or `stderr`."""
        self._put(stream, self._lines[stream].feed(data))

    def finish(self) -> None:
        """The process has ended and its pipes are empty."""
        for stream in STREAMS:
            self._put(stream, self._lines[stream].finish())

    def recent(self) -> list[str]:
        """Return the last lines of stderr that are not blank, or of stdout if stderr has none."""
        for stream in reversed(STREAMS):
            lines = [without_colours(line).strip() for line in self._recent[stream]]
            if any(lines):
                return [line for line in lines if line]
        return []

    def _put(self, stream: str, lines: list[str]) -> None:
        self._recent[stream].extend(lines)
        self._output.write(stream, lines)
