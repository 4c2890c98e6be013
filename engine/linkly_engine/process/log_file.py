"""A log file of bounded size: when it is full it becomes `NAME.1`, the one before `NAME.2`, and so on.

A disk that is full costs lines, never the engine.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path

log = logging.getLogger("linkly.process")

FULL_BYTES = 4 * 1024 * 1024
KEPT = 3


class LogFile(RotatingFileHandler):
    """One file and the `kept` full ones before it. `close` lets go of the file; writing makes or opens it."""

    def __init__(self, path: Path, *, full_bytes: int = FULL_BYTES, kept: int = KEPT) -> None:
        super().__init__(path, maxBytes=full_bytes, backupCount=kept, encoding="utf-8", errors="replace", delay=True)
        self._failed = self._complained = False

    def write(self, lines: list[str]) -> None:
        """Append lines."""
        self._failed = False
        self.handle(logging.makeLogRecord({"msg": "\n".join(lines)}))
        self._complained = self._failed

    def handleError(self, record: logging.LogRecord) -> None:
        """Say once that lines are lost."""
        self._failed = True
        error = sys.exc_info()[1]
        if not self._complained:
            reason = getattr(error, "strerror", None) or error
            log.warning("%s cannot be written, its lines are lost: %s", self.baseFilename, reason)

    def _open(self) -> TextIOWrapper:
        Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
        return super()._open()


def tail(path: Path, count: int, kept: int = KEPT) -> list[str]:
    """Return the last `count` lines of a log file and of those that were put away, oldest first."""
    lines: list[str] = []
    for file in (path, *(path.with_name(f"{path.name}.{number}") for number in range(1, kept + 1))):
        if len(lines) >= count:
            break
        with suppress(OSError):
            text = file.read_text("utf-8", "replace")
            lines = text.removesuffix("\n").split("\n") + lines if text else lines
    return lines[-count:] if count > 0 else []
