"""Settings of the gateway."""

from __future__ import annotations

from typing import Annotated

import msgspec

from linkly import Settings
from linkly.origin import read_host
from linkly_workers.http.cors import CorsSettings
from linkly_workers.http.proxies import check_network
from linkly_workers.http.states import ConnectionLimits


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
            check_network(address)

    def limits(self) -> ConnectionLimits:
        """Return what a client may take."""
        return ConnectionLimits(
            head_bytes=self.header_limit_bytes,
            target_bytes=self.target_limit_bytes,
            head_s=self.header_timeout_ms / 1000,
            body_s=self.body_timeout_ms / 1000,
            idle_s=self.keep_alive_timeout_ms / 1000,
        )

    def middleware_ids(self) -> list[str]:
        """Return the functions that run before every function, in their order."""
        return [each.function_id for each in sorted(self.middleware, key=lambda each: each.priority)]
