"""The link shortener over HTTP: what its functions look like as requests and responses.

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

from linkly import HttpRequest, HttpResponse, Void, Worker, function, http
from linkly.errors import InvalidArguments, LinklyError, NotFound
from linkly.http import Media
from linkly_workers.link.codes import InvalidCode
from linkly_workers.link.links import Links
from linkly_workers.link.outcome import Outcome, why_not
from linkly_workers.link.shapes import (
    Create,
    CreateBody,
    Days,
    Link,
    LinkDetails,
    LinkPage,
    ListRequest,
    RecordClick,
    Refusal,
    Resolved,
    Stats,
    Update,
    UpdateBody,
)
from linkly_workers.link.stores.store import CodeTaken, KeyReused
from linkly_workers.link.urls import InvalidUrl, canonical_host, with_query
from linkly_workers.link.visitors import is_bot, referrer_host, visitor_hash

T = TypeVar("T")

NO_STORE = "private, no-store"
UNCOUNTED = Refusal("this redirect is counted, so it is not fetched in advance; follow it when it is wanted")
PURPOSES = ("sec-purpose", "purpose", "x-purpose", "x-moz")
"""Headers by which browsers say that nobody has followed the link yet: today's, and those of older ones."""
IN_ADVANCE = ("prefetch", "preview", "prerender")

NOT_FOUND = Refusal("link not found")
COUNTED_BEFORE = Refusal("this click was counted before; a new click needs another Idempotency-Key, or none")
GONE = {Outcome.EXPIRED: Refusal("link expired"), Outcome.EXHAUSTED: Refusal("link has no clicks left")}

STATUS: dict[type[LinklyError], int] = {
    InvalidUrl: 400,
    InvalidCode: 400,
    InvalidArguments: 400,
    NotFound: 404,
    CodeTaken: 409,
    KeyReused: 422,
}

_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")
KEY_CHARACTERS = 255
NUMBERS = ("limit", "days")
_DIGITS = re.compile(r"-?[0-9]{1,18}")


class StatsQuery(msgspec.Struct, kw_only=True):
    """Query of `GET /links/:code/stats`."""

    days: Days = 30


class LinkPages(Worker):
    """The HTTP half of the link worker.

    Attributes:
        links: What it does.
        base_url: Where the shortener is reached; `None`: where the request came to.
        forward_query: Whether a redirect hands its request's query on.
        count_first: Whether a redirect waits until its click is counted.
    """

    links: Links
    base_url: str | None
    forward_query: bool
    count_first: bool

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
            return _answer(400, Refusal(request.body_error or 'missing "url"'))
        try:
            body = _read(request.body, CreateBody)
            wanted = Create(
                url=body.url,
                code=body.code,
                expires_at=body.expires_at,
                max_clicks=body.max_clicks,
                idempotency_key=_key(request),
            )
            return _answer(201, await self.links.create(wanted, _own_host(request)))
        except LinklyError as error:
            return _refused(error)

    @function(
        "http::redirect",
        triggers=[
            http("GET", path, answers={302: None, 400: Refusal, 404: Refusal, 410: Refusal, 503: Refusal})
            for path in ("/s/:code", "/s/:code/")
        ],
    )
    async def redirect(self, request: HttpRequest) -> HttpResponse:
        """Redirect to the link's target, its click counted: 404 for an unknown code, 410 when the link is over.

        A repeated request with the same `Idempotency-Key` header counts once. It redirects again while the link lives;
        if the link has `max_clicks`, for a minute. A request in advance (`Sec-Purpose: prefetch`) gets 503: a browser
        asks again when its user follows the link, and that is counted.
        """
        if _in_advance(request):
            return _answer(503, UNCOUNTED)
        code = request.path_params["code"]
        try:
            key = _key(request)
        except LinklyError as error:
            return _refused(error)
        click = None if request.method == "HEAD" else self._click(code, key, request)
        found = await self.bus.trigger("link::resolve", {"code": code}, result_type=Resolved)
        if found.url is None:
            return await self._leads_nowhere(request, None if key is None else click)
        if click is not None:
            # Only the count itself knows whether a click is left.
            if self.count_first or found.max_clicks is not None:
                outcome = (await self.links.count(click)).outcome
                if not outcome.may_redirect:
                    return await self._leads_nowhere(request, outcome=outcome)
            else:
                await self.bus.trigger("link::record_click", click, action=Void())
        return self._redirect(found.url, request)

    @function(
        "link::http_list",
        triggers=[http("GET", "/links", query=ListRequest, answers={200: LinkPage, 400: Refusal})],
        metadata={"internal": True},
    )
    async def http_list(self, request: HttpRequest) -> HttpResponse:
        """List links, newest first; `next_cursor` of a page gives the next one."""
        try:
            return _answer(200, await self.links.page(_read(_query(request), ListRequest)))
        except LinklyError as error:
            return _refused(error)

    @function(
        "link::http_get",
        triggers=[http("GET", "/links/:code", answers={200: LinkDetails, 404: Refusal})],
        metadata={"internal": True},
    )
    async def http_get(self, request: HttpRequest) -> HttpResponse:
        """Show a link, also one that is over."""
        try:
            return _answer(200, await self.links.find(request.path_params["code"]))
        except LinklyError as error:
            return _refused(error)

    @function(
        "link::http_update",
        triggers=[http("PUT", "/links/:code", body=UpdateBody, answers={200: Link, 400: Refusal, 404: Refusal})],
        metadata={"internal": True},
    )
    async def http_update(self, request: HttpRequest) -> HttpResponse:
        """Change where a link leads. Limits that are left out stay, null takes one away."""
        if not _has_url(request):
            return _answer(400, Refusal(request.body_error or 'missing "url"'))
        try:
            body = _read(request.body, UpdateBody)
            wanted = Update(
                code=request.path_params["code"],
                url=body.url,
                expires_at=body.expires_at,
                max_clicks=body.max_clicks,
            )
            return _answer(200, await self.links.update(wanted, _own_host(request)))
        except LinklyError as error:
            return _refused(error)

    @function(
        "link::http_delete",
        triggers=[http("DELETE", "/links/:code", answers={204: None, 404: Refusal})],
        metadata={"internal": True},
    )
    async def http_delete(self, request: HttpRequest) -> HttpResponse:
        """Forget a link and its clicks."""
        deleted = await self.links.delete(request.path_params["code"])
        return HttpResponse(status_code=204) if deleted else _answer(404, NOT_FOUND)

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
            return _answer(200, await self.links.stats(request.path_params["code"], query.days))
        except LinklyError as error:
            return _refused(error)

    @function(
        "link::http_qr",
        triggers=[http("GET", "/links/:code/qr", answers={200: Media("image/svg+xml"), 400: Refusal, 404: Refusal})],
        metadata={"internal": True},
    )
    async def http_qr(self, request: HttpRequest) -> HttpResponse:
        """Draw a link's QR code as SVG."""
        base_url = self.base_url
        if base_url is None:
            host = request.headers.get("host", "")
            if not _HOST.fullmatch(host):
                return _answer(400, Refusal(f"the Host header {host[:64]!r} names no host; set base_url in the config"))
            base_url = f"{request.scheme}://{host}"
        try:
            link = await self.links.find(request.path_params["code"])
        except LinklyError as error:
            return _refused(error)
        svg = await anyio.to_thread.run_sync(_qr_code, f"{base_url.rstrip('/')}/s/{link.code}")
        return HttpResponse(headers={"Content-Type": "image/svg+xml", "Cache-Control": "no-cache"}, body=svg)

    async def _leads_nowhere(
        self, request: HttpRequest, perhaps_counted: RecordClick | None = None, outcome: Outcome | None = None
    ) -> HttpResponse:
        try:
            link = await self.links.find(request.path_params["code"])
        except NotFound:
            return _answer(404, NOT_FOUND)
        # Perhaps this very click was the last one, and its answer got lost.
        if perhaps_counted is not None:
            outcome = (await self.links.count(perhaps_counted)).outcome
            if outcome.may_redirect:
                return self._redirect(link.url, request)
        why = why_not(link, self.links.now())
        if why is None and outcome is Outcome.REPEATED_LATE:
            return _answer(410, COUNTED_BEFORE)
        return _answer(410, GONE[why or Outcome.EXHAUSTED])

    def _redirect(self, url: str, request: HttpRequest) -> HttpResponse:
        if self.forward_query and request.query_string:
            url = with_query(url, request.query_string)
        return HttpResponse(status_code=302, headers={"Location": url, "Cache-Control": NO_STORE})

    def _click(self, code: str, key: str | None, request: HttpRequest) -> RecordClick:
        headers = request.headers
        user_agent = headers.get("user-agent", "")
        referer = headers.get("referer")
        return RecordClick(
            code=code,
            click_id=key or self.links.click_id(),
            visitor=visitor_hash(self.links.visitor_secret, request.client_host, user_agent),
            referrer=None if referer is None else referrer_host(referer),
            bot=is_bot(user_agent),
        )


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


def _key(request: HttpRequest) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= KEY_CHARACTERS:
        raise InvalidArguments(f"the Idempotency-Key header has {len(key)} characters; allowed: 1 to {KEY_CHARACTERS}")
    return key


def _own_host(request: HttpRequest) -> str | None:
    return canonical_host(request.headers.get("host", ""))


def _in_advance(request: HttpRequest) -> bool:
    """Tell whether a browser asks before anybody has followed the link."""
    headers = request.headers
    for name in PURPOSES:
        purpose = headers.get(name)
        if purpose is not None and purpose.lower().startswith(IN_ADVANCE):
            return True
    return False


def _answer(status: int, body: Any) -> HttpResponse:
    # Caches may keep a 404 or a 410 that says nothing of it (RFC 9110 15.1), and the code may lead somewhere soon.
    return HttpResponse(status_code=status, headers={"Cache-Control": NO_STORE}, body=body)


def _refused(error: LinklyError) -> HttpResponse:
    """Return the response for an error that is the client's; others are the gateway's to report."""
    status = STATUS.get(type(error))
    if status is None:
        raise error
    return _answer(status, NOT_FOUND if status == 404 else Refusal(error.message))


@lru_cache(maxsize=1024)
def _qr_code(text: str) -> str:
    drawn = io.BytesIO()
    segno.make_qr(text).save(drawn, kind="svg", scale=8, xmldecl=False, title=text)
    return drawn.getvalue().decode()
