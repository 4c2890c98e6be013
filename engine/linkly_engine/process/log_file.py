"""A log file of bounded size: when it is full it becomes `NAME.1`, the one before `NAME.2`, and so on.

Knows bytes and files only. A disk that is full costs lines, never the engine.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from io import FileIO
from pathlib import Path

log = logging.getLogger("linkly.process")

FULL_BYTES = 4 * 1024 * 1024
KEPT = 3


class LogFile:
    """One file and the full ones before it.

    Args:
        path: Made when the first line is written.
        full_bytes: Size at which it is put away.
        kept: How many full ones are kept; all together take `(kept + 1) * full_bytes` at most, and one line.
    """

    def __init__(self, path: Path, *, full_bytes: int = FULL_BYTES, kept: int = KEPT) -> None:
        self.path = path
        self._full_bytes = full_bytes
        self._kept = kept
        self._file: FileIO | None = None
        self._size = 0
        self._complained = False

    def write(self, lines: bytes) -> None:
        """Append whole lines."""
        try:
            if self._size and self._size + len(lines) > self._full_bytes:
                self._put_away()
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115
                self._size = self._file.tell()
            self._size += self._file.write(lines) or 0
            self._complained = False
        except OSError as error:
            if not self._complained:
                self._complained = True
                log.warning("%s cannot be written, its lines are lost: %s", self.path, error.strerror or error)

    def close(self) -> None:
        """Let go of the file; writing opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self._size = 0

    def tail(self, count: int) -> list[str]:
        """Return the last `count` lines, oldest first."""
        lines: list[str] = []
        for number in range(self._kept + 1):
            if len(lines) >= count:
                break
            with suppress(OSError):
                text = self._numbered(number).read_bytes().decode("utf-8", "replace")
                lines = text.removesuffix("\n").split("\n") + lines if text else lines
        return lines[-count:] if count > 0 else []

    def _put_away(self) -> None:
        self.close()
        for number in range(self._kept, 0, -1):
            with suppress(FileNotFoundError):
                self._numbered(number - 1).replace(self._numbered(number))

    def _numbered(self, number: int) -> Path:
        return self.path if number == 0 else self.path.with_name(f"{self.path.name}.{number}")
