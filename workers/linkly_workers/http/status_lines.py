"""The first lines of a response, status and date, kept until the date changes. Pure."""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus

_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class StatusLines:
    """Status -> the bytes that a response with it begins with."""

    def __init__(self) -> None:
        self._date = b""
        self._known: dict[int, bytes] = {}

    def turn_to(self, time_s: float) -> None:
        """Give responses this date from now on.

        Args:
            time_s: Seconds since the epoch.
        """
        self._date = formatdate(time_s, usegmt=True).encode()
        self._known.clear()

    def __getitem__(self, status: int) -> bytes:
        known = self._known.get(status)
        if known is None:
            phrase = _PHRASES.get(status, "").encode()
            known = self._known[status] = b"HTTP/1.1 %d %b\r\ndate: %b\r\n" % (status, phrase, self._date)
        return known
