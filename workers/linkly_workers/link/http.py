"""Links over HTTP: requests and responses of what `links.py` does.

Bodies of the first tutorial stay as they are: `{"code", "url"}` for a link, `{"error": "..."}` for a refusal.
"""

from __future__ import annotations

import io
import re
from functools import lru_cache
from typing import Any, TypeVar

import anyio.to_thread
import msgspec
import segno
from msgspec.structs import asdict

from linkly import HttpRequest, HttpResponse, function, http
from linkly.errors import InvalidArguments, LinklyError
from linkly.http import Media
from linkly_workers.link.links import Links
from linkly_workers.link.responses import NOT_FOUND, answer, code_in_path, idempotency_key, refused
from linkly_workers.link.shapes import (
    Create,
    CreateBody,
    Days,
    Link,
    LinkDetails,
    LinkPage,
    ListRequest,
    Refusal,
    Stats,
    Update,
    UpdateBody,
)
from linkly_workers.link.urls import canonical_host

T = TypeVar("T")

NUMBERS = ("limit", "days")
_DIGITS = re.compile(r"-?[0-9]{1,18}")
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")


class StatsQuery(msgspec.Struct, kw_only=True):
    """Query of `GET /links/:code/stats`."""

    days: Days = 30


class LinkHttp:
    """The part of the link worker that answers `/links`.

    Args:
        base_url: Where the shortener is reached; `None`: where the request came to.
    """

    _links: Links

    def __init__(self, base_url: str | None) -> None:
        self._base_url = base_url

    def open(self, links: Links) -> None:
        """Serve links from now on."""
        self._links = links

    @function(
        "link::http_create",
        triggers=[
            http("POST", "/links", body=CreateBody, answers={201: Link, 400: Refusal, 409: Refusal, 422: Refusal})
        ],
        metadata={"internal": True},
    )
    async def http_create(self, request: HttpRequest) -> HttpResponse:
        """Make a short link. A repeated request with the same `Idempotency-Key` header makes no second one."""
        if not _has_url(request):
            return answer(400, Refusal(request.body_error or 'missing "url"'))
        try:
            body = _read(request.body, CreateBody)
            wanted = Create(**asdict(body), idempotency_key=idempotency_key(request))
            return answer(201, await self._links.make(wanted, _own_host(request)))
        except LinklyError as error:
            return refused(error)

    @function(
        "link::http_list",
        triggers=[http("GET", "/links", query=ListRequest, answers={200: LinkPage, 400: Refusal})],
        metadata={"internal": True},
    )
    async def http_list(self, request: HttpRequest) -> HttpResponse:
        """List links, newest first; `next_cursor` of a page gives the next one."""
        try:
            return answer(200, await self._links.list(_read(_query(request), ListRequest)))
        except LinklyError as error:
            return refused(error)

    @function(
        "link::http_get",
        triggers=[http("GET", "/links/:code", answers={200: LinkDetails, 404: Refusal})],
        metadata={"internal": True},
    )
    async def http_get(self, request: HttpRequest) -> HttpResponse:
        """Show a link, also one that is over."""
        try:
            return answer(200, await self._links.find(code_in_path(request)))
        except LinklyError as error:
            return refused(error)

    @function(
        "link::http_update",
        triggers=[http("PUT", "/links/:code", body=UpdateBody, answers={200: Link, 400: Refusal, 404: Refusal})],
        metadata={"internal": True},
    )
    async def http_update(self, request: HttpRequest) -> HttpResponse:
        """Change where a link leads. Limits that are left out stay, null takes one away."""
        if not _has_url(request):
            return answer(400, Refusal(request.body_error or 'missing "url"'))
        try:
            body = _read(request.body, UpdateBody)
            wanted = Update(code=code_in_path(request), **asdict(body))
            return answer(200, await self._links.change(wanted, _own_host(request)))
        except LinklyError as error:
            return refused(error)

    @function(
        "link::http_delete",
        triggers=[http("DELETE", "/links/:code", answers={204: None, 404: Refusal})],
        metadata={"internal": True},
    )
    async def http_delete(self, request: HttpRequest) -> HttpResponse:
        """Forget a link and its clicks."""
        try:
            deleted = (await self._links.delete(code_in_path(request))).deleted
        except LinklyError as error:
            return refused(error)
        return HttpResponse(status_code=204) if deleted else answer(404, NOT_FOUND)

    @function(
        "link::http_stats",
        triggers=[
            http("GET", "/links/:code/stats", query=StatsQuery, answers={200: Stats, 400: Refusal, 404: Refusal})
        ],
        metadata={"internal": True},
    )
    async def http_stats(self, request: HttpRequest) -> HttpResponse:
        """Say how a link was used: people, visitors, bots, days, referrers."""
        try:
            query = _read(_query(request), StatsQuery)
            return answer(200, await self._links.stats(code_in_path(request), query.days))
        except LinklyError as error:
            return refused(error)

    @function(
        "link::http_qr",
        triggers=[http("GET", "/links/:code/qr", answers={200: Media("image/svg+xml"), 400: Refusal, 404: Refusal})],
        metadata={"internal": True},
    )
    async def http_qr(self, request: HttpRequest) -> HttpResponse:
        """Draw a link's QR code as SVG."""
        base_url = self._base_url
        if base_url is None:
            host = request.headers.get("host", "")
            if not _HOST.fullmatch(host):
                return answer(400, Refusal(f"the Host header {host[:64]!r} names no host; set base_url in the config"))
            base_url = f"{request.scheme}://{host}"
        try:
            link = await self._links.find(code_in_path(request))
        except LinklyError as error:
            return refused(error)
        svg = await anyio.to_thread.run_sync(_qr_code, f"{base_url.rstrip('/')}/s/{link.code}")
        return HttpResponse(headers={"Content-Type": "image/svg+xml", "Cache-Control": "no-cache"}, body=svg)


def _has_url(request: HttpRequest) -> bool:
    return isinstance(request.body, dict) and bool(request.body.get("url"))


def _read(value: Any, type_: type[T]) -> T:
    """Return a body or a query's values as its type.

    Raises:
        InvalidArguments: It does not fit; the message names the field.
    """
    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        raise InvalidArguments(str(error).replace("$.", "").replace(" - at `", ": `")) from error


def _query(request: HttpRequest) -> dict[str, Any]:
    """Return a query's values. All of it is text; what is a number is read as one, in plain digits only."""
    return {
        name: int(text) if name in NUMBERS and _DIGITS.fullmatch(text) else text
        for name, text in request.query_params.items()
    }


def _own_host(request: HttpRequest) -> str | None:
    return canonical_host(request.headers.get("host", ""))


@lru_cache(maxsize=1024)
def _qr_code(text: str) -> str:
    drawn = io.BytesIO()
    segno.make_qr(text).save(drawn, kind="svg", scale=8, xmldecl=False, title=text)
    return drawn.getvalue().decode()
