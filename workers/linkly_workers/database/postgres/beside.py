"""What goes over a connection together with what its driver writes, and is not the driver's.

A write wakes the server, and that is most of what a small statement costs here; so `BEGIN` goes in front of the first
statement of a transaction, and what undoes the leavings of a caller goes behind his last one, in the same write. The
driver takes the answer to the former for a part of its own, and does not see that to the latter. The messages are those
of PostgreSQL's manual, "Message Formats".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_HEAD_BYTES = 5
_READY, _FAILED = ord("Z"), ord("E")
_AT_ANY_TIME = frozenset(b"SNA")
"""A setting that has changed, a notice and a notification: they are always for the driver."""
_NO_TRANSACTION = ord("I")


def in_front(sql: str) -> bytes:
    """Return what runs a text without values in front of a statement; if it fails, the server skips that as well."""
    parse = _message(b"P", b"\0" + sql.encode() + bytes(3))
    return parse + _message(b"B", bytes(8)) + _message(b"E", bytes(5))


def simple_query(sql: str) -> bytes:
    """Return what runs texts without values, whatever became of the statement in front of it."""
    return _message(b"Q", sql.encode() + b"\0")


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


class Beside:
    """One connection.

    Attributes:
        front: Goes out in front of the driver's next write; made by `in_front`.
    """

    __slots__ = ("_answer", "_behind", "_usual", "front")

    def __init__(self) -> None:
        self.front = b""
        self._usual = b""  # the last answer to what went behind, if there was nothing to say about it
        self._behind: tuple[bytes, _Answer] | None = None
        self._answer: _Answer | None = None

    def put_behind(self, query: bytes) -> asyncio.Future[bool]:
        """Send a `simple_query` behind the driver's next write, which must be one that the server answers.

        Returns:
            Whether it has succeeded, as soon as that is known.
        """
        answer = _Answer()
        self._behind = (query, answer)
        return answer.succeeded

    def take_back(self) -> bool:
        """Send nothing of what has not been sent; returns whether there was something."""
        left = bool(self.front) or self._behind is not None
        self.front = b""
        if self._behind is not None:
            self._behind[1].end(succeeds=False)
            self._behind = None
        return left

    def written(self, data: bytes | memoryview) -> bytes | memoryview:
        """Return what is to be written where the driver writes something."""
        if self._behind is None:
            if not self.front:
                return data
            query = b""
        else:
            query, self._answer = self._behind
        data = b"".join((self.front, data, query))
        self.front, self._behind = b"", None
        return data

    def received(self, data: bytes, to_driver: Callable[[bytes], object]) -> None:
        """Hand over what has come to the driver, but for the answer to what went behind."""
        if self._answer is None:
            to_driver(data)
        elif (rest := self._answer.received(data, to_driver, self._usual)) is not None:
            self._usual = self._answer.usual
            self._answer = None
            if rest:
                to_driver(rest)

    def lost(self) -> None:
        """Take it that the connection is lost."""
        if self._answer is not None:
            self._answer.end(succeeds=False)
            self._answer = None


class _Answer:
    """The answer to a statement of the driver and to the query behind it, as it comes in.

    Attributes:
        succeeded: Whether the query has, and no transaction is open.
        usual: The bytes of its answer, if they were nothing but a success; `b""` otherwise.
    """

    __slots__ = ("_is_whole", "_own", "_rest", "_skip", "_succeeds", "succeeded", "usual")

    def __init__(self) -> None:
        self.succeeded: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.usual = b""
        self._own = False  # the driver's has come to its end
        self._skip = 0  # bytes of a message of the driver's that are still to come
        self._rest = b""  # the beginning of a message
        self._is_whole = True  # nothing of the query's own answer has been read yet
        self._succeeds = True

    def received(self, data: bytes, to_driver: Callable[[bytes], object], usual: bytes) -> bytes | None:
        """Read bytes of the server; returns those behind the answer when it is complete.

        An answer that is `usual` is not read once more: it has a dozen messages.
        """
        if not self._own:
            end = self._end_of_driver(data)
            if end is None:
                to_driver(data)
                return None
            to_driver(data[:end])
            self._own, self._rest, data = True, b"", data[end:]
        data = self._rest + data
        if usual and data == usual and self._is_whole:
            self.usual = usual
            self.end(succeeds=True)
            return b""
        at = 0
        while (end := _end_of_message(data, at)) is not None and end <= len(data):
            kind = data[at]
            if kind == _READY:
                succeeds = self._succeeds and data[at + _HEAD_BYTES] == _NO_TRANSACTION
                if succeeds and self._is_whole:
                    self.usual = data[:end]
                self.end(succeeds=succeeds)
                return data[end:]
            if kind == _FAILED:
                self._succeeds = False
            elif kind in _AT_ANY_TIME:
                self._is_whole = False
                to_driver(data[at:end])
            at = end
        self._is_whole = self._is_whole and not at
        self._rest = data[at:]
        return None

    def end(self, *, succeeds: bool) -> None:
        """Tell the end."""
        if not self.succeeded.done():
            self.succeeded.set_result(succeeds)

    def _end_of_driver(self, data: bytes) -> int | None:
        """Return how many of these bytes are the driver's, `None`: all, and more will come."""
        if self._skip >= len(data):
            self._skip -= len(data)
            return None
        before = len(self._rest)
        data, at = self._rest + data, self._skip
        while (end := _end_of_message(data, at)) is not None:
            if data[at] == _READY and end <= len(data):
                return end - before
            if end > len(data):
                if data[at] == _READY:
                    break
                self._rest, self._skip = b"", end - len(data)
                return None
            at = end
        self._rest, self._skip = data[at:], 0
        return None


def _end_of_message(data: bytes, at: int) -> int | None:
    """Return where the message ends that begins at a place, `None` if its head has not come."""
    if len(data) - at < _HEAD_BYTES:
        return None
    return at + 1 + int.from_bytes(data[at + 1 : at + _HEAD_BYTES], "big")
