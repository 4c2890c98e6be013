"""Which pages of other origins may call (workers-edge.md 1.9)."""

from __future__ import annotations

from linkly import Settings
from linkly_workers.http.response import Headers, Reply


class CorsSettings(Settings):
    """Who may ask; an empty list or `*` means anybody."""

    allowed_origins: list[str] = []
    allowed_methods: list[str] = []


class Cors:
    """Makes the headers; without settings anybody may ask, without credentials."""

    def __init__(self, settings: CorsSettings | None) -> None:
        origins = settings.allowed_origins if settings is not None else []
        methods = settings.allowed_methods if settings is not None else []
        self._origins = None if not origins or "*" in origins else frozenset(origins)
        self._methods = "*" if not methods or "*" in methods else ", ".join(methods)

    def headers_for(self, headers: dict[str, str]) -> Headers:
        """Return what every response to this request carries."""
        if self._origins is None:
            return [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", b"*")]
        origin = headers.get("origin", "")
        if origin not in self._origins:
            return [(b"vary", b"origin")]
        return [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"origin")]

    def is_preflight(self, method: str, headers: dict[str, str]) -> bool:
        """Tell a browser's question from a request (Fetch 3.2.2)."""
        return method == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers

    def preflight(self, headers: dict[str, str]) -> Reply:
        """Answer a browser's question; it needs no route."""
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
