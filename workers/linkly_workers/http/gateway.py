"""The way of every request: judge, match, and answer or have it served.

It is a plain call from the connection to the function's bus, without ASGI, which takes 30 us a request, and without a
framework's router, which takes 40 more. What no route takes is answered by the app of the gateway's own pages.
"""

from __future__ import annotations

from functools import partial

import msgspec

from linkly_workers.http.absent import Absent
from linkly_workers.http.asgi import App, answer_with
from linkly_workers.http.browsers import BrowserRules
from linkly_workers.http.cors import Cors
from linkly_workers.http.exchange import Exchange
from linkly_workers.http.pages import PATHS
from linkly_workers.http.response import JSON_TYPE, Reply, not_allowed
from linkly_workers.http.routes import METHODS, Match, RouteTable
from linkly_workers.http.serving import Serving


class Gateway:
    """Answers requests."""

    def __init__(
        self,
        routes: RouteTable,
        serving: Serving,
        pages: App,
        *,
        absent: Absent,
        cors: Cors,
        browsers: BrowserRules,
    ) -> None:
        self._routes = routes
        self._serving = serving
        self._pages = pages
        self._absent = absent
        self._cors = cors
        self._browsers = browsers

    def serve(self, exchange: Exchange) -> None:
        """Answer a request, now or later."""
        origin = exchange.headers.get("origin")
        exchange.cors = self._cors.lines if origin is None else self._cors.lines_for(origin)
        refused = self._browsers.misdirected(exchange.headers) if exchange.connection.from_this_machine else None
        if refused is None and origin is not None:
            refused = self._judge(exchange, origin)
        if refused is not None:
            exchange.answer(refused)
            return
        found = self._routes.find(exchange.method, exchange.path)
        if not isinstance(found, Match):
            answering = partial(self._without_route, exchange, found)
            exchange.connection.run(self._serving.answer(exchange, answering))
        else:
            exchange.connection.run(self._serving.serve(exchange, found))

    def _judge(self, exchange: Exchange, origin: str) -> Reply | None:
        """Return the answer to a page that asks first, or that may not ask."""
        if self._cors.is_preflight(exchange.method, exchange.headers):
            return self._cors.preflight(exchange.headers)
        return self._browsers.foreign(exchange.method, origin, exchange.headers)

    async def _without_route(self, exchange: Exchange, allowed: list[str] | None) -> Reply | None:
        method, path = exchange.method, exchange.path
        if path not in PATHS:
            expected = await self._absent.expected(method, path)
            if expected is not None:
                return _away(expected)
        if allowed is not None:
            return not_allowed(method, allowed)
        if path == "*":  # of the server as a whole, which only OPTIONS can ask for (RFC 9110 9.3.7)
            return Reply(204, [(b"allow", ", ".join(METHODS).encode())], b"")
        await answer_with(self._pages, exchange)
        return None


def _away(reason: str) -> Reply:
    """Return the answer to a request whose function is expected back; no error of the gateway, so not in its log."""
    body = msgspec.json.encode({"error": {"code": "worker_away", "message": f"{reason}: ask again"}})
    return Reply(503, [JSON_TYPE, (b"retry-after", b"1")], body)
