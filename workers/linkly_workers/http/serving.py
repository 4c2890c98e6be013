"""One request that leads to a function: its trace, its steps, its one deadline, and what becomes of a failure."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from linkly import Binding, Bus, HttpRequest, HttpResponse, Invocation, Json
from linkly.bus import InPlace
from linkly.context import current_invocation
from linkly.errors import CallTimeout, LinklyError, Shutdown
from linkly.firing import condition_met, fire
from linkly_workers.http.body import Body, BodyTooLarge
from linkly_workers.http.connections import asking
from linkly_workers.http.exchange import Exchange
from linkly_workers.http.middleware import run_middleware
from linkly_workers.http.request import is_json, json_body, no_json_type, read_request
from linkly_workers.http.response import Headers, Reply, error_reply, failure_reply, reply
from linkly_workers.http.routes import Match, Route
from linkly_workers.http.settings import HttpSettings
from linkly_workers.http.streaming import Conversation
from linkly_workers.http.trigger import HttpTrigger

log = logging.getLogger("linkly.http")

# A method of what is imported is looked up slowly.
_trace, _traced_before = current_invocation.set, current_invocation.reset
_ask, _asked_before = asking.set, asking.reset

_STEPS = 100
_BROKEN = "the gateway failed; why is in its log, beside this error_id"


class Time:
    """The time that a request has."""

    def __init__(self, monotonic: Callable[[], float], timeout_s: float) -> None:
        self.ends_at = monotonic() + timeout_s
        self._monotonic = monotonic
        self._timeout_s = timeout_s

    def left_s(self) -> float:
        """Return how much of it is left, to the hundredth part.

        Rounded, because waits of one length share one timer: there are to be few lengths (`linkly.deadline`).

        Raises:
            CallTimeout: None is left.
        """
        left = self.ends_at - self._monotonic()
        if left <= 0:
            raise CallTimeout(f"no response within {self._timeout_s:g} s; give it more with `default_timeout`")
        steps = max(round(left * _STEPS / self._timeout_s), 1)
        return self._timeout_s if steps >= _STEPS else self._timeout_s * steps / _STEPS


class Serving:
    """Serves requests by calling functions."""

    def __init__(self, bus: Bus, settings: HttpSettings) -> None:
        self._bus = bus
        self._monotonic = bus.clock.monotonic
        self._timeout_s = settings.default_timeout / 1000
        self._concurrency = settings.concurrency_request_limit
        self._body_limit_bytes = settings.body_limit_bytes
        self._middleware = settings.middleware_ids()
        self._expose_errors = settings.expose_errors
        self.active = 0

    def has_room(self) -> bool:
        """Return whether one more request would be served."""
        return self.active < self._concurrency

    async def serve(self, exchange: Exchange, match: Match) -> None:
        """Answer a request; its call is cancelled when the client hangs up, and when the gateway stops.

        Whether there is room is asked here and not before: runs of one turn are started before the first of them
        begins, and one that is cancelled before has taken none.
        """
        if not self.has_room():
            text = f"{self.active} requests are being served"
            exchange.answer(error_reply(503, "overloaded", text, headers=[(b"retry-after", b"1")]))
            return
        route, headers = match.route, exchange.headers
        binding = route.binding
        # Nested calls inherit the trace of the request, and the socket it came on.
        trace = Invocation(
            function_id="http",
            origin=exchange.connection.origin,
            traceparent=headers.get("traceparent"),
            baggage=headers.get("baggage"),
        )
        traced, asked = _trace(trace), _ask(exchange.connection)
        self.active += 1
        try:
            request = read_request(exchange, match)
            answer: Reply | None
            if exchange.has_body or self._middleware or not binding.config.is_direct:
                answer = await self._in_steps(exchange, binding, request)
            else:
                answer = reply(await self._function(binding, request, self._timeout_s), binding.function_id)
        except BaseException as error:
            answer = self._failed(error, exchange, route)
        finally:
            self.active -= 1
            _asked_before(asked)
            _traced_before(traced)
        if answer is not None:
            exchange.answer(answer)

    async def answer(self, exchange: Exchange, answering: Callable[[], Awaitable[Reply | None]]) -> None:
        """Send what a callable answers, or why it does not; nothing if it has sent a response itself."""
        try:
            answer = await answering()
        except BaseException as error:
            answer = self._failed(error, exchange, None)
        if answer is not None:
            exchange.answer(answer)

    def _failed(self, error: BaseException, exchange: Exchange, route: Route | None) -> Reply | None:
        """Return the answer to a request that failed; `None` where there is nobody, or no way, to tell."""
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
        elif not isinstance(error, (Exception, SystemExit)):  # a function that exits does not end the engine
            raise error
        if exchange.complete:  # what an app does after its answer is no part of it, and the next request may be served
            if not isinstance(error, asyncio.CancelledError):
                log.error("%s %s: after the response", exchange.method, exchange.path, exc_info=error)
            return None
        if exchange.started:
            if not exchange.gone:
                if not isinstance(error, asyncio.CancelledError):
                    log.error("%s %s: the response is cut off: %s", exchange.method, exchange.path, error)
                exchange.cut_off()
            return None
        if isinstance(error, BodyTooLarge):
            # A client that is sending is heard out (its bytes are dropped): closing now would reset the connection
            # before it reads this. One that asked first will not send.
            close: Headers = [(b"connection", b"close")] if "expect" in exchange.headers else []
            return error_reply(413, error.code, error.message, headers=close)
        if isinstance(error, LinklyError) and route is not None:
            where = f"{route.method} {route.pattern}"
            return failure_reply(error, route.binding.function_id, where, expose=self._expose_errors)
        if exchange.gone:
            return None
        if isinstance(error, asyncio.CancelledError):
            return _stopped()
        log.error("%s %s", exchange.method, exchange.path, exc_info=error)
        return error_reply(500, "internal_error", f"{type(error).__name__}: {error}", shown=_BROKEN)

    async def _in_steps(self, exchange: Exchange, binding: Binding, request: HttpRequest) -> Reply | None:
        """Middleware, body, condition, the route's middleware, function: in this order (docs/workers.md#http)."""
        config: HttpTrigger = binding.config
        headers = exchange.headers
        time = Time(self._monotonic, self._timeout_s)
        if self._middleware:
            stopped = await run_middleware(self._bus, self._middleware, request, binding.namespace, time.left_s)
            if stopped is not None:
                return stopped
        body = Body(exchange, self._body_limit_bytes)
        body.check()
        data: bytes | None = b""
        if exchange.has_body:
            parsed = is_json(headers.get("content-type", ""))
            if parsed and not config.stream and headers.get("content-encoding", "identity").lower() != "identity":
                return _packed(headers["content-encoding"])
            data = await self._read(body, exchange, time) if parsed else None
            if not parsed:
                request.body_error = no_json_type(headers.get("content-type"))
            elif data:
                request.body, request.body_error = json_body(data)
        condition = config.condition_function_id
        if condition is not None and not await condition_met(
            self._bus, condition, request, binding.namespace, timeout_s=time.left_s()
        ):
            return error_reply(422, "CONDITION_NOT_MET", "Request condition not met", skipped=True)
        if config.middleware_function_ids:
            stopped = await run_middleware(
                self._bus, config.middleware_function_ids, request, binding.namespace, time.left_s
            )
            if stopped is not None:
                return stopped
        if data is not None and not config.stream:
            return reply(await self._function(binding, request, time.left_s()), binding.function_id)
        # The time-out of a streamed response ends with its headers, so the conversation looks after it.
        conversation = Conversation(self._bus, binding.function_id, time.left_s(), exchange.start, exchange.send_part)
        answer = await conversation.run(
            request,
            body if data is None else data,
            lambda: fire(self._bus, binding, request, result_type=Json, timeout_s=None),
            streams=config.stream,
        )
        if answer is None:
            exchange.end()
        return answer

    def _function(self, binding: Binding, request: HttpRequest, timeout_s: float) -> Coroutine[Any, Any, Any]:
        return self._bus.trigger(
            binding.function_id,
            InPlace(request, HttpResponse),  # nothing of the request is read here any more
            result_type=InPlace,
            namespace=binding.namespace,
            metadata=binding.metadata,
            timeout_s=timeout_s,
        )

    async def _read(self, body: Body, exchange: Exchange, time: Time) -> bytes:
        """Read all of a body; the connection answers 408 when the time of the request ends before."""
        exchange.connection.body_until = time.ends_at
        try:
            return await body.read()
        finally:
            exchange.connection.body_until = None


def _packed(coding: str) -> Reply:
    text = f"a JSON body with `Content-Encoding: {coding}` is not unpacked here; send it as it is"
    return error_reply(415, "UNSUPPORTED_MEDIA_TYPE", text, headers=[(b"accept-encoding", b"identity")])


def _stopped() -> Reply:
    """Return the answer to a request that the end of the gateway has cancelled."""
    text = "the gateway is being stopped or made anew, and the function had no more time: ask again"
    return error_reply(503, Shutdown.code, text, headers=[(b"retry-after", b"1"), (b"connection", b"close")])
