"""The first lines of a response, status and date, kept until the date changes. Pure."""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus

_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class StatusLines(dict[int, bytes]):
    """Status -> the bytes that a response with it begins with."""

    def __init__(self) -> None:
        super().__init__()
        self._date = b""

    def turn_to(self, time_s: float) -> None:
        """Give responses this date from now on.

        Args:
            time_s: Seconds since the epoch.
        """
        self._date = formatdate(time_s, usegmt=True).encode()
        self.clear()

    def __missing__(self, status: int) -> bytes:
        phrase = _PHRASES.get(status, "").encode()
        line = self[status] = b"HTTP/1.1 %d %b\r\ndate: %b\r\n" % (status, phrase, self._date)
        return line
