"""One request and its response: where it leads, what is left of its time, and how its client is answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from linkly.errors import CallTimeout
from linkly_workers.http.body import Receive
from linkly_workers.http.protocol import GatewayProtocol
from linkly_workers.http.request import Scope
from linkly_workers.http.response import WITHOUT_BODY, Headers, Reply
from linkly_workers.http.routes import Match

Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_STEPS = 100


class Exchange:
    """One request and its response.

    Args:
        scope: ASGI's.
        receive: ASGI's.
        send: ASGI's.
        headers: Of the request.
        cors: What every response to it carries.
        match: Where it leads.
        monotonic: The clock's.
        timeout_s: How long it may take until its headers are ready, from now on.

    Attributes:
        connection: The connection on which the request came.
        ends_at: The clock's time at which its time is over.
    """

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        headers: dict[str, str],
        cors: Headers,
        match: Match,
        monotonic: Callable[[], float],
        timeout_s: float,
    ) -> None:
        self.scope = scope
        self.receive = receive
        self.headers = headers
        self.cors = cors
        self.match = match
        self.connection: GatewayProtocol = scope["linkly.connection"]
        self.ends_at = monotonic() + timeout_s
        self.send = send
        self._monotonic = monotonic
        self._timeout_s = timeout_s
        self._bodiless = scope["method"] == "HEAD"

    def left_s(self) -> float:
        """Return how much of its time is left, to the hundredth part.

        Rounded, because waits of one length share one timer: there are to be few lengths (`linkly.deadline`).

        Raises:
            CallTimeout: None is left.
        """
        left = self.ends_at - self._monotonic()
        if left <= 0:
            raise CallTimeout(f"no response within {self._timeout_s:g} s; give it more with `default_timeout`")
        steps = max(round(left * _STEPS / self._timeout_s), 1)
        return self._timeout_s if steps >= _STEPS else self._timeout_s * steps / _STEPS

    async def start(self, status: int, headers: Headers) -> None:
        """Begin a streamed response."""
        self._bodiless = self._bodiless or status in WITHOUT_BODY
        if status == 205:
            headers = [*headers, (b"content-length", b"0")]
        elif not self._bodiless:
            self.connection.begin_unsized()
        await self.send({"type": "http.response.start", "status": status, "headers": [*headers, *self.cors]})
        self.connection.changed()

    async def send_part(self, data: bytes) -> bool:
        """Send a part of a streamed response; return whether the client wants more."""
        if self._bodiless:
            return False
        if data:
            self.connection.expect_part(len(data))
            await self.send({"type": "http.response.body", "body": data, "more_body": True})
        return True

    async def end(self) -> None:
        """End a streamed response."""
        await self.send({"type": "http.response.body", "body": b""})

    def cut_off(self) -> None:
        """Close the connection without an end, so that the client does not take a part for the whole."""
        self.connection.cut_off()


async def send_reply(send: Send, answer: Reply, cors: Headers, *, head: bool = False) -> None:
    """Send a whole response, to HEAD without its body."""
    headers = [*answer.headers, *cors]
    if answer.status not in (204, 304):
        headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else answer.body})
