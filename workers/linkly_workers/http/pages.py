"""Paths that the gateway itself answers, and 404."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from linkly_workers.http.response import JSON_TYPE, Headers, Reply, error_reply, not_allowed

HOME = (
    "this is linkly's HTTP gateway, and it runs; no function has the route GET / yet: a trigger of type http "
    "gives it to one. What can be asked for is told by /openapi.json"
)


class Pages:
    """What no route takes.

    Args:
        has_room: Whether one more request would be served.
        troubles: Why workers are not ready.
        document: The OpenAPI document.
    """

    def __init__(
        self,
        has_room: Callable[[], bool],
        troubles: Callable[[], Awaitable[list[str]]],
        document: Callable[[], Awaitable[bytes]],
    ) -> None:
        self._has_room = has_room
        self._troubles = troubles
        self._document = document
        self._pages = {"/healthz": self._healthz, "/readyz": self._readyz, "/openapi.json": self._openapi}

    def __contains__(self, path: str) -> bool:
        return path in self._pages

    async def answer(self, method: str, path: str) -> Reply:
        """Answer a request that no route takes."""
        page = self._pages.get(path)
        if page is None:
            return error_reply(404, "NOT_FOUND", HOME if path == "/" else "Not Found")
        if method not in ("GET", "HEAD"):
            return not_allowed(method, ["GET", "HEAD"])
        return await page()

    async def _healthz(self) -> Reply:
        """Answer that the process lives: restarting it would not help."""
        return _json(200, {"status": "ok"})

    async def _readyz(self) -> Reply:
        """Answer whether requests are served, so that a balancer may send some."""
        if not self._has_room():
            return _json(503, {"status": "overloaded"})
        reasons = await self._troubles()
        return _json(503, {"status": "not_ready", "reasons": reasons}) if reasons else await self._healthz()

    async def _openapi(self) -> Reply:
        """Return the OpenAPI document."""
        return Reply(200, [JSON_TYPE], await self._document())


def _json(status: int, body: dict[str, object]) -> Reply:
    headers: Headers = [JSON_TYPE] if status == 200 else [JSON_TYPE, (b"retry-after", b"1")]
    return Reply(status, headers, msgspec.json.encode(body))
