"""The body of a request as it arrives, never more than the limit."""

from __future__ import annotations

from collections.abc import AsyncIterator

from linkly.errors import LinklyError
from linkly_workers.http.exchange import Exchange


class BodyTooLarge(LinklyError):
    """The body is larger than the gateway takes."""

    code = "PAYLOAD_TOO_LARGE"


class Body:
    """The parts of a body as they arrive, by iteration; reading pauses between two steps of it."""

    def __init__(self, exchange: Exchange, limit_bytes: int) -> None:
        declared = exchange.headers.get("content-length", "")
        self._declared = int(declared) if declared.isdigit() else 0
        self._exchange = exchange
        self._limit_bytes = limit_bytes

    def check(self) -> None:
        """Refuse a body whose Content-Length is too large, before any of it is read.

        Raises:
            BodyTooLarge: The declared length is over the limit.
        """
        if self._declared > self._limit_bytes:
            raise BodyTooLarge(f"the body may have {self._limit_bytes} bytes")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        while self._exchange.has_body and (part := await self._exchange.next_part()):
            size += len(part)
            if size > self._limit_bytes:
                raise BodyTooLarge(f"the body may have {self._limit_bytes} bytes")
            yield part

    async def read(self) -> bytes:
        """Return all of it.

        Raises:
            BodyTooLarge: It is larger than the limit.
            ClientGone: The connection ended before.
        """
        return b"".join([part async for part in self])
