"""The gateway as a worker: trigger type `http`, one listener (workers-edge.md 1).

Different from iii on purpose: until `cors` says more, pages of this machine alone may ask; path parameters are
percent-decoded; `url_path` is the path that was asked for; HEAD is answered by GET routes; a return value without
response keys is answered itself; too many requests get 503, not a queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, ClassVar

import msgspec
import uvicorn

from linkly import Binding, HttpRequest, Settings, TriggerType, Worker
from linkly.errors import ConfigError
from linkly.origin import read_host
from linkly_workers.http.absent import Absent
from linkly_workers.http.browsers import BrowserRules
from linkly_workers.http.closing import Closing
from linkly_workers.http.cors import Cors, CorsSettings
from linkly_workers.http.gateway import Gateway
from linkly_workers.http.hosts import Hosts
from linkly_workers.http.protocol import ConnectionLimits, Connections
from linkly_workers.http.readiness import Checks
from linkly_workers.http.routes import RouteTable
from linkly_workers.http.trigger import HttpTrigger

BACKLOG = 2048
CLOSE_S = 5


class MiddlewareSettings(Settings):
    """A function that runs before every function."""

    function_id: str
    phase: str = "preHandler"
    priority: int = 0


class HttpSettings(Settings):
    """Settings of the gateway."""

    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 3111
    host: str = "127.0.0.1"
    default_timeout: Annotated[int, msgspec.Meta(ge=1)] = 30_000
    concurrency_request_limit: Annotated[int, msgspec.Meta(ge=1)] = 1024
    body_limit_bytes: Annotated[int, msgspec.Meta(ge=0)] = 16 * 1024 * 1024
    header_limit_bytes: Annotated[int, msgspec.Meta(ge=1024)] = 32 * 1024
    target_limit_bytes: Annotated[int, msgspec.Meta(ge=1)] = 8 * 1024
    header_timeout_ms: Annotated[int, msgspec.Meta(ge=1)] = 10_000
    body_timeout_ms: Annotated[int, msgspec.Meta(ge=1)] = 30_000
    keep_alive_timeout_ms: Annotated[int, msgspec.Meta(ge=1)] = 75_000
    trusted_proxies: list[str] = []
    allowed_hosts: list[str] = []
    expose_errors: bool = False
    cors: CorsSettings | None = msgspec.field(default_factory=CorsSettings)
    middleware: list[MiddlewareSettings] = []

    def __post_init__(self) -> None:
        for host in self.allowed_hosts:
            try:
                read_host(host)
            except ValueError as error:
                raise ValueError(f"allowed_hosts: {error}") from error
        for address in self.trusted_proxies:
            _check_network(address)


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
        self._socket: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._closing: Closing | None = None
        self._absent: Absent | None = None
        self._legacy: _Legacy | None = None

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
        gateway = Gateway(
            self.bus,
            self._routes,
            self._checks,
            absent=absent,
            cors=cors,
            browsers=BrowserRules(cors, self._hosts),
            timeout_s=settings.default_timeout / 1000,
            concurrency=settings.concurrency_request_limit,
            body_limit_bytes=settings.body_limit_bytes,
            middleware=[each.function_id for each in sorted(settings.middleware, key=lambda each: each.priority)],
            expose_errors=settings.expose_errors,
        )
        connections: Any = Connections(
            self.bus.clock,
            ConnectionLimits(
                head_bytes=settings.header_limit_bytes,
                target_bytes=settings.target_limit_bytes,
                head_s=settings.header_timeout_ms / 1000,
                body_s=settings.body_timeout_ms / 1000,
                idle_s=settings.keep_alive_timeout_ms / 1000,
            ),
            settings.trusted_proxies,
        )
        self._socket = _listen(settings.host, settings.port) if legacy is None else legacy.listener_for(settings)
        server = uvicorn.Server(
            uvicorn.Config(
                gateway,
                http=connections,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=bool(settings.trusted_proxies),
                forwarded_allow_ips=settings.trusted_proxies,
            )
        )
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        server.servers = []
        self._server, self._closing = server, Closing(connections, CLOSE_S)
        connections.start()
        ticking = asyncio.get_running_loop().create_task(server.main_loop(), name="http clock")
        try:
            yield
        finally:
            for listener in server.servers:
                listener.close()
            self._socket.close()
            await self._closing.end()
            connections.stop()
            ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticking

    async def ready(self) -> None:
        """Accept connections."""
        if self._server is not None:
            await self._server.startup(sockets=[self._socket] if self._socket is not None else [])

    async def drain(self) -> None:
        """Finish requests and end streams while the listener still accepts: a next gateway can follow at once."""
        if self._closing is not None:
            await self._closing.drain()

    def hand_over(self) -> object:
        """Keep the listener open, so that connections that come meanwhile wait for the next gateway."""
        if self._socket is None or self._absent is None:
            return None
        return _Legacy(self.settings.host, self.settings.port, self._socket.dup(), self._absent)

    def inherit(self, legacy: object) -> None:
        """Take the listener over, if the address is the same."""
        if isinstance(legacy, _Legacy):
            self._legacy = legacy

    @property
    def url(self) -> str:
        """Where it listens, also when port 0 was asked for."""
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        port = self._socket.getsockname()[1] if self._socket is not None else self.settings.port
        return f"http://{host}:{port}"

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


class _Legacy:
    """What one gateway leaves to the next: an open listener and what is known of absent routes."""

    def __init__(self, host: str, port: int, listener: socket.socket, absent: Absent) -> None:
        self._address = host, port
        self._listener = listener
        self.absent = absent

    def listener_for(self, settings: HttpSettings) -> socket.socket:
        """Return a copy of the listener, or a new one if the address is another.

        Raises:
            ConfigError: Nothing can listen there.
        """
        if self._address == (settings.host, settings.port) and self._listener.fileno() >= 0:
            return self._listener.dup()
        if self._address[1] == settings.port:
            self.close()  # `0.0.0.0` cannot be had beside `127.0.0.1`
        # Else it stays open until that one listens: if it cannot, the gateway before goes on with it.
        listener = _listen(settings.host, settings.port)
        self.close()
        return listener

    def close(self) -> None:
        """Nobody needs the listener any more."""
        self._listener.close()


def _check_network(address: str) -> None:
    """Check the address or network of proxies whose `X-Forwarded-For` is believed."""
    try:
        ipaddress.ip_network(address)
    except ValueError as error:
        raise ValueError(
            f"trusted_proxies: `{address}` is neither an IP address nor a network such as `10.0.0.0/8`: {error}"
        ) from error


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"the http gateway cannot listen on {host}:{port}: {error.strerror or error}; stop what uses the port, "
            "or choose another with `port:` in the config of worker `http` (0: any free one)"
        ) from error
    return listener
