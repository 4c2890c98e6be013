"""Which pages of other origins may read answers and send what they like (docs/workers.md#http, Fetch 3.2).

Different from iii on purpose: until origins are written, pages of this machine may, not those of the whole world.
"""

from __future__ import annotations

from linkly import Settings
from linkly.origin import LOCAL_HOSTS, host_of, read_origin
from linkly_workers.http.response import Reply

_ANYBODY = b"access-control-allow-origin: *\r\naccess-control-expose-headers: *\r\n"
_NOT_YOU = b"vary: origin\r\n"


class CorsSettings(Settings):
    """Which origins may ask; none listed: pages of this machine, `*`: every page."""

    allowed_origins: list[str] = []
    allowed_methods: list[str] = []

    def __post_init__(self) -> None:
        try:
            _listed(self.allowed_origins)
        except ValueError as error:
            raise ValueError(f"allowed_origins: {error}") from error


class Cors:
    """Which origins are admitted, and the headers that tell browsers so; credentials are never allowed.

    Attributes:
        lines: The header lines of every response to a request that names no origin.
    """

    def __init__(self, settings: CorsSettings | None) -> None:
        origins = settings.allowed_origins if settings is not None else []
        methods = settings.allowed_methods if settings is not None else []
        self._anybody = "*" in origins
        self._listed = _listed(origins)
        self.lines = _ANYBODY if self._anybody else _NOT_YOU
        self._methods = "*" if not methods or "*" in methods else ", ".join(methods)

    def admits(self, origin: str) -> bool:
        """Return whether the pages of an origin may ask."""
        if self._anybody:
            return True
        if self._listed:
            return origin in self._listed
        scheme, _, authority = origin.partition("://")
        return scheme in ("http", "https") and host_of(authority) in LOCAL_HOSTS

    def lines_for(self, origin: str) -> bytes:
        """Return the header lines of every response to a request of this origin."""
        if self._anybody or not self.admits(origin):
            return self.lines
        allow = b"access-control-allow-origin: %b\r\naccess-control-expose-headers: *\r\n" % origin.encode()
        return allow + _NOT_YOU

    def is_preflight(self, method: str, headers: dict[str, str]) -> bool:
        """Return whether a request is a browser's preflight (Fetch 3.2.2)."""
        return method == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers

    def preflight(self, headers: dict[str, str]) -> Reply:
        """Return the answer to a preflight; it needs no route."""
        asked = headers.get("access-control-request-headers", "*")
        methods = headers["access-control-request-method"] if self._methods == "*" else self._methods
        return Reply(
            200,
            [
                (b"access-control-allow-methods", methods.encode("latin-1", "replace")),
                (b"access-control-allow-headers", asked.encode("latin-1", "replace")),
            ],
            b"",
        )


def _listed(origins: list[str]) -> frozenset[str]:
    return frozenset(read_origin(origin) for origin in origins if origin != "*")
