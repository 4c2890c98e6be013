"""The gateway as a worker: trigger type `http`, one listener (docs/workers.md#http).

Different from iii on purpose: until `cors` says more, pages of this machine alone may ask; path parameters are
percent-decoded; `url_path` is the path that was asked for; HEAD is answered by GET routes; a return value without
response keys is answered itself; too many requests get 503, not a queue.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

import msgspec

from linkly import Binding, HttpRequest, Settings, TriggerType, Worker
from linkly_workers.http.absent import Absent
from linkly_workers.http.browsers import BrowserRules, Hosts
from linkly_workers.http.connections import Connections
from linkly_workers.http.cors import Cors
from linkly_workers.http.gateway import Gateway
from linkly_workers.http.listener import Listener, listen, url_of
from linkly_workers.http.openapi import OpenApi
from linkly_workers.http.pages import pages
from linkly_workers.http.readiness import Checks
from linkly_workers.http.routes import RouteTable
from linkly_workers.http.serving import Serving
from linkly_workers.http.settings import HttpSettings
from linkly_workers.http.trigger import HttpTrigger


class Legacy(msgspec.Struct):
    """What one gateway hands to the next: an open listener, and the absent routes."""

    listener: Listener
    absent: Absent

    def close(self) -> None:
        """Close the listener: the next gateway has a copy, or there is none."""
        self.listener.close()


class HttpWorker(Worker):
    """Turns HTTP requests into calls."""

    name = "http"
    settings_type: ClassVar[type[Settings]] = HttpSettings
    settings: HttpSettings

    def __init__(self, settings: HttpSettings | None = None) -> None:
        super().__init__(settings)
        self._routes = RouteTable()
        self._hosts = Hosts(self.settings.allowed_hosts)
        self._checks = Checks()
        self._connections: Connections | None = None
        self.listener: Listener | None = None
        self._absent: Absent | None = None
        self._legacy: Legacy | None = None

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Listen from the start to the end; requests that are being served are finished.

        Connections are accepted from `ready` on, and wait until then: before, the routes are not known.
        """
        settings = self.settings
        legacy, self._legacy = self._legacy, None
        absent = self._absent = Absent(self.bus) if legacy is None else legacy.absent
        absent.goes_on(self.bus)
        cors = Cors(settings.cors)
        serving = Serving(self.bus, settings)
        document = OpenApi(self.bus, self._routes, middleware=bool(settings.middleware))
        own_pages = pages(serving.has_room, lambda: self._checks.reasons(self.bus), document.read)
        gateway = Gateway(
            self._routes,
            serving,
            own_pages,
            absent=absent,
            cors=cors,
            browsers=BrowserRules(cors, self._hosts),
        )
        connections = Connections(gateway.serve, own_pages, self.bus.clock, settings.limits(), settings.trusted_proxies)
        address = settings.host, settings.port
        self.listener = listen(*address) if legacy is None else legacy.listener.moved(*address)
        self._connections = connections
        connections.start()
        try:
            yield
        finally:
            connections.accept_no_more()
            self.listener.close()
            await connections.end()

    async def ready(self) -> None:
        """Accept connections."""
        if self._connections is not None and self.listener is not None:
            await self._connections.accept(self.listener.socket)

    async def drain(self) -> None:
        """Finish requests and end streams while the listener still accepts: a next gateway can follow at once."""
        if self._connections is not None:
            await self._connections.drain()

    def hand_over(self) -> object:
        """Keep the listener open, so that connections that come meanwhile wait for the next gateway."""
        if self.listener is None or self._absent is None:
            return None
        return Legacy(self.listener.copy(), self._absent)

    def inherit(self, legacy: object) -> None:
        """Take the listener over, if the address is the same."""
        if isinstance(legacy, Legacy):
            self._legacy = legacy

    @property
    def url(self) -> str:
        """Where it listens, also when port 0 was asked for."""
        return url_of(self.settings.host, self.settings.port) if self.listener is None else self.listener.url

    def addresses(self) -> dict[str, str]:
        """Return the gateway's address."""
        return {"http": self.url}

    def trigger_types(self) -> list[TriggerType]:
        """Provide the `http` trigger, and `http::readiness`."""
        return [
            self._checks.trigger_type(),
            TriggerType(
                "http",
                "An HTTP request arrives at the gateway.",
                bind=self._bind,
                unbind=self._unbind,
                config_type=HttpTrigger,
                payload_type=HttpRequest,
            ),
        ]

    async def _bind(self, binding: Binding) -> None:
        config: HttpTrigger = binding.config
        self._routes.remove(binding.id)
        self._hosts.forget(binding.id)
        self._routes.add(config.http_method, config.api_path, binding)
        self._hosts.declare(binding.id, config)
        if self._absent is not None:
            await self._absent.came(binding)

    async def _unbind(self, binding: Binding) -> None:
        route = self._routes.remove(binding.id)
        self._hosts.forget(binding.id)
        if self._absent is not None:
            self._absent.went(route, binding)
