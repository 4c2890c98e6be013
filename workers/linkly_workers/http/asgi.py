"""An ASGI app answers an exchange, for pages that are seldom asked for (ASGI 3, HTTP 2.3).

What the app sends is gathered and leaves as one whole response.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import unquote

from linkly_workers.http.exchange import ClientGone, Exchange
from linkly_workers.http.response import MANAGED, Reply

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]


async def answer_with(app: App, exchange: Exchange) -> None:
    """Let an app answer."""
    bridge = _Bridge(exchange)
    await app(_scope(exchange), bridge.receive, bridge.send)


def _scope(exchange: Exchange) -> Message:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": exchange.method,
        "scheme": exchange.scheme,
        "path": unquote(exchange.path),
        "raw_path": exchange.path.encode(),
        "query_string": exchange.query.encode(),
        "root_path": "",
        "headers": exchange.fields,
        "client": (exchange.client_host, 0),
        "server": None,
    }


class _Bridge:
    """What the app receives and sends."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._received = False
        self._reply = Reply(200, [], b"")

    async def receive(self) -> Message:
        if self._received:  # nothing follows but the client's end, by which this task is cancelled
            await asyncio.Event().wait()
        try:
            part = await self._exchange.next_part()
        except ClientGone:
            return {"type": "http.disconnect"}
        self._received = not part
        return {"type": "http.request", "body": part, "more_body": bool(part)}

    async def send(self, message: Message) -> None:
        reply = self._reply
        if message["type"] == "http.response.start":
            reply.status = message["status"]
            reply.headers = [field for field in message.get("headers", ()) if field[0] not in MANAGED]
        else:
            reply.body += message.get("body", b"")
            if not message.get("more_body", False):
                self._exchange.answer(reply)
