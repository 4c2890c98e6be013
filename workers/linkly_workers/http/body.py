"""The body of a request as it arrives, never more than the limit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from linkly.errors import LinklyError

Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]


class BodyTooLarge(LinklyError):
    """The body is larger than the gateway takes."""

    code = "PAYLOAD_TOO_LARGE"


class ClientGone(Exception):
    """The connection ended before the body did: no response can be sent."""


class Body:
    """The parts of a body as they arrive, by iteration; reading pauses between two steps of it.

    Attributes:
        present: Whether the request has a body.
    """

    def __init__(self, headers: dict[str, str], receive: Receive, limit_bytes: int) -> None:
        declared = headers.get("content-length", "")
        self._declared = int(declared) if declared.isdigit() else 0
        self._receive = receive
        self._limit_bytes = limit_bytes
        self.present = self._declared > 0 or "transfer-encoding" in headers

    def check(self) -> None:
        """Refuse a body whose Content-Length is too large, before any of it is read.

        Raises:
            BodyTooLarge: The declared length is over the limit.
        """
        if self._declared > self._limit_bytes:
            raise BodyTooLarge(f"the body may have {self._limit_bytes} bytes")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size, more = 0, self.present
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            part = message.get("body", b"")
            size += len(part)
            if size > self._limit_bytes:
                raise BodyTooLarge(f"the body may have {self._limit_bytes} bytes")
            if part:
                yield part
            more = message.get("more_body", False)

    async def read(self) -> bytes:
        """Return all of it.

        Raises:
            BodyTooLarge: It is larger than the limit.
            ClientGone: The connection ended before.
        """
        return b"".join([part async for part in self]) if self.present else b""
