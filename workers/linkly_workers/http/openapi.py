"""`/openapi.json`: asks the engine what the functions of the routes say about themselves, and keeps the document.

It is kept until the routes change; `document.py` makes it.
"""

from __future__ import annotations

import asyncio
import logging
from itertools import groupby
from typing import Any

import msgspec
from anyio import to_thread

from linkly import Bus
from linkly.errors import LinklyError
from linkly_workers.http.document import Key, function_of, make_document
from linkly_workers.http.routes import RouteTable

log = logging.getLogger("linkly.http")

ASK_S = 2.0
ASK_AT_ONCE = 32  # functions that one `engine::functions::info` describes


class OpenApi:
    """The document of a gateway."""

    def __init__(self, bus: Bus, routes: RouteTable, *, middleware: bool) -> None:
        self._bus = bus
        self._routes = routes
        self._middleware = middleware
        self._known: tuple[int, bytes] | None = None

    async def read(self) -> bytes:
        """Return the document of the routes as they are now, as JSON."""
        now = self._routes.version
        if self._known is not None and self._known[0] == now:
            return self._known[1]
        routes = list(self._routes)
        functions = await self._describe({function_of(route) for route in routes})
        document = await to_thread.run_sync(
            lambda: msgspec.json.encode(make_document(routes, functions, middleware=self._middleware))
        )
        # A function that could not be described may be registered any moment.
        if all(function_of(route) in functions for route in routes):
            self._known = (now, document)
        return document

    async def _describe(self, wanted: set[Key]) -> dict[Key, dict[str, Any]]:
        """Return the descriptions of functions; one that the engine does not know or describe in time is left out."""
        asked: list[tuple[str, list[str]]] = []
        for namespace, keys in groupby(sorted(wanted), key=lambda key: key[0]):
            ids = [function_id for _, function_id in keys]
            asked += [(namespace, ids[at : at + ASK_AT_ONCE]) for at in range(0, len(ids), ASK_AT_ONCE)]
        answers = await asyncio.gather(*(self._ask(namespace, ids) for namespace, ids in asked))
        return {
            (namespace, row["function_id"]): row
            for (namespace, _), rows in zip(asked, answers, strict=True)
            for row in rows
            if "error" not in row
        }

    async def _ask(self, namespace: str, ids: list[str]) -> list[dict[str, Any]]:
        try:
            answer = await self._bus.trigger(
                "engine::functions::info",
                {"function_ids": ids, "namespace": namespace},
                result_type=dict[str, list[dict[str, Any]]],
                timeout_s=ASK_S,
            )
        except LinklyError as error:
            log.warning("/openapi.json goes without descriptions: %s", error)
            return []
        return answer.get("functions", [])
