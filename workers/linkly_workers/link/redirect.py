"""`GET /s/:code`: a click is counted, and its visitor sent on."""

from __future__ import annotations

import asyncio

from linkly import HttpRequest, HttpResponse, function, http
from linkly.errors import LinklyError, NotFound
from linkly_workers._scripts import Unavailable
from linkly_workers.link.clicks import Clicks, Count
from linkly_workers.link.links import Links
from linkly_workers.link.outcome import Outcome, why_not
from linkly_workers.link.responses import NO_STORE, NOT_FOUND, answer, code_in_path, idempotency_key, refused
from linkly_workers.link.shapes import RecordClick, Refusal
from linkly_workers.link.times import Now
from linkly_workers.link.urls import with_query
from linkly_workers.link.visitors import is_bot, referrer_host, visitor_hash

PURPOSES = ("sec-purpose", "purpose", "x-purpose", "x-moz")
"""Headers by which browsers say that nobody has followed the link yet: today's, and those of older ones."""
IN_ADVANCE = ("prefetch", "preview", "prerender")

UNCOUNTED = Refusal("this redirect is counted, so it is not fetched in advance; follow it when it is wanted")
COUNTED_BEFORE = Refusal("this click was counted before; a new click needs another Idempotency-Key, or none")
GONE = {Outcome.EXPIRED: Refusal("link expired"), Outcome.EXHAUSTED: Refusal("link has no clicks left")}


class Redirect:
    """The part of the link worker that answers `/s/:code`."""

    _links: Links
    _clicks: Clicks
    _now: Now

    def __init__(self, *, count: Count, forward_query: bool) -> None:
        self._count = count
        self._forward_query = forward_query
        self._visitor_secret = b""
        self._store_was_tried = asyncio.Event()

    def open(self, links: Links, clicks: Clicks, now: Now) -> None:
        """Redirect by these links from now on."""
        self._links, self._clicks, self._now = links, clicks, now

    def hash_visitors_with(self, secret: bytes) -> None:
        """Use a store's secret for the hashes of its visitors."""
        self._visitor_secret = secret

    def store_was_tried(self) -> None:
        """Let requests no longer wait for the store to be opened: it is open, or its database is away."""
        self._store_was_tried.set()

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
            return answer(503, UNCOUNTED)
        try:
            key = idempotency_key(request)
        except LinklyError as error:
            return refused(error)
        code = code_in_path(request)
        if not self._visitor_secret:
            # Requests come from the moment at which the worker is registered, before its store is open.
            await self._store_was_tried.wait()
            if not self._visitor_secret:
                return refused(Unavailable("the store of the links has not been opened yet"))
        try:
            if request.method == "HEAD":
                url = (await self._links.resolve(code)).url
                return await self._leads_nowhere(code) if url is None else self._to(url, request)
            click = self._click(code, key, request)
            if self._count != "before_redirect":
                found = await self._links.resolve(code)
                if found.url is not None and found.max_clicks is None:
                    if self._count == "queued":
                        await self._clicks.count_from_queue(click)
                    else:
                        await self._clicks.count_in_background(click)
                    return self._to(found.url, request)
            # Only the count knows whether a click is left, or whether this very click was counted and its answer got
            # lost. It brings the target along, so the cache is not asked as well.
            counted = await self._clicks.count(click)
            link = counted.link
            if link is None:
                return answer(404, NOT_FOUND)
            if counted.outcome.may_redirect:
                return self._to(link.url, request)
            if counted.outcome is Outcome.REPEATED_LATE:
                why = why_not(link, self._now())
                return answer(410, COUNTED_BEFORE if why is None else GONE[why])
            return answer(410, GONE[counted.outcome])
        except Unavailable as error:
            return refused(error)

    async def _leads_nowhere(self, code: str) -> HttpResponse:
        try:
            link = await self._links.find(code)
        except NotFound:
            return answer(404, NOT_FOUND)
        return answer(410, GONE[why_not(link, self._now()) or Outcome.EXHAUSTED])

    def _to(self, url: str, request: HttpRequest) -> HttpResponse:
        if self._forward_query and request.query_string:
            url = with_query(url, request.query_string)
        return HttpResponse(status_code=302, headers={"Location": url, "Cache-Control": NO_STORE})

    def _click(self, code: str, key: str | None, request: HttpRequest) -> RecordClick:
        headers = request.headers
        user_agent = headers.get("user-agent", "")
        referer = headers.get("referer")
        return RecordClick(
            code=code,
            click_id=key,
            visitor=visitor_hash(self._visitor_secret, request.client_host, user_agent),
            referrer=None if referer is None else referrer_host(referer),
            bot=is_bot(user_agent),
        )


def _in_advance(request: HttpRequest) -> bool:
    """Return whether a browser asks before anybody has followed the link."""
    headers = request.headers
    if headers.keys().isdisjoint(PURPOSES):  # most requests: 0.1 us less
        return False
    return any(headers.get(name, "").lower().startswith(IN_ADVANCE) for name in PURPOSES)
