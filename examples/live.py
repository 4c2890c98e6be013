"""Clicks as they happen, as server-sent events: `database::row-changed` on one side, a streamed response on the other.

In a config.yaml beside it: `- module: live:LiveWorker`, then `curl -N http://127.0.0.1:3111/live`.
"""

import asyncio
from typing import Any

from linkly import HttpRequest, StreamedResponse, Worker, function, http, trigger


class LiveWorker(Worker):
    """Shows every click to everybody who watches."""

    name = "live"

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.watchers: set[asyncio.Queue[Any]] = set()

    @function("live::clicked", triggers=[trigger("database::row-changed", {"db": "primary", "table": "clicks"})])
    async def clicked(self, event: dict[str, Any]) -> None:
        """Tell the watchers; one that is 100 events behind misses some."""
        for queue in self.watchers:
            if not queue.full():
                queue.put_nowait({"table": event["table"], "op": event["op"], "at": event["at"]})

    @function("live::watch", triggers=[http("GET", "/live", stream=True)])
    async def watch(self, request: HttpRequest) -> None:
        """Send an event for every click, until the client hangs up."""
        queue: asyncio.Queue[Any] = asyncio.Queue(100)
        self.watchers.add(queue)
        try:
            async with StreamedResponse(self.bus, request, headers={"content-type": "text/event-stream"}) as out:
                await out.event("watching")
                while True:
                    await out.event(await queue.get())
        finally:
            self.watchers.discard(queue)
