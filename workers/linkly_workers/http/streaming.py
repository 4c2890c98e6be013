"""One request whose function may read the body, or write the response, through channels (docs/workers.md#http).

Both channels last as long as the request; one that was not opened is dropped with it. Data that the client does not
read waits in the channel, so a slow client slows the function; a client that has gone ends both. Until the response
begins the function has the time of the request, by the clock; afterwards as long as it likes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias

import msgspec

from linkly import Bus, Channel, ChannelReader, ChannelWriter, HttpRequest, Json
from linkly.clock import time_limit
from linkly.errors import CallTimeout, LinklyError
from linkly_workers.http.body import Body, BodyTooLarge
from linkly_workers.http.response import Headers, Reply, read_headers, read_status, reply

log = logging.getLogger("linkly.http")

ATTACH_S = 5.0
"""How long a function that answered null may take to open its response: its socket may still be on the way."""
OUTCOME_S = 1.0
"""How long a response that was closed without data waits to hear whether its function failed."""


Begun: TypeAlias = tuple[Any, asyncio.Task[Json] | None]
"""The task that receives the first data of a response, or has received it, and the call, while it lasts."""


class CutOff(Exception):
    """The function failed in the middle of its response, which must not look complete to the client."""


class _HeadMessage(msgspec.Struct):
    type: str = ""
    status_code: Any = None
    headers: Any = None


class Head:
    """Status and headers of a streamed response, which the function sends as text messages before the first data.

    Headers of a later message replace those of the same name.
    """

    def __init__(self, function_id: str) -> None:
        self.status = 200
        self.headers: Headers = []
        self._function_id = function_id

    def apply(self, text: str) -> None:
        """Take one text message; one that sets neither status nor headers is ignored.

        Raises:
            UnsendableResponse: The status or a header has a type that cannot be sent.
        """
        try:
            message = msgspec.json.decode(text, type=_HeadMessage)
        except (msgspec.MsgspecError, RecursionError):
            return
        if message.type == "set_status":
            self.status = read_status(message.status_code, self._function_id)
        elif message.type == "set_headers":
            said = read_headers(message.headers, self._function_id)
            names = {name for name, _ in said}
            self.headers = [pair for pair in self.headers if pair[0] not in names] + said


class Conversation:
    """Runs one such request, and sends what its function streams."""

    def __init__(
        self,
        bus: Bus,
        function_id: str,
        timeout_s: float,
        start: Callable[[int, Headers], Awaitable[None]],
        send: Callable[[bytes], Awaitable[bool]],
    ) -> None:
        self._bus = bus
        self._function_id = function_id
        self._timeout_s = timeout_s
        self._start = start
        self._send = send
        self._tasks: set[asyncio.Task[Any]] = set()
        self._head = Head(function_id)
        self._reader: ChannelReader | None = None
        self._writer: ChannelWriter | None = None

    async def run(
        self,
        request: HttpRequest,
        body: Body | bytes,
        call: Callable[[], Coroutine[Any, Any, Json]],
        *,
        streams: bool,
    ) -> Reply | None:
        """Call the function.

        Returns:
            The response, or `None` when it has been streamed.

        Raises:
            BodyTooLarge: The body passed its limit before the response began.
            ClientGone: The connection ended before the body did.
            LinklyError: The function failed before the response began.
            CutOff: It failed afterwards.
        """
        inbound = outbound = None
        try:
            inbound = await self._bus.create_channel()
            request.request_body = inbound.reader
            self._writer = await self._bus.open_writer(inbound.writer)
            pumping = self._spawn(_pump(body, self._writer))
            if streams:
                outbound = await self._bus.create_channel()
                self._reader = await self._bus.open_reader(outbound.reader)
                request.response = outbound.writer
            return await self._answer(self._spawn(call()), pumping)
        finally:
            await self._end(inbound)

    def _spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        return task

    async def _answer(self, call: asyncio.Task[Json], pump: asyncio.Task[None]) -> Reply | None:
        try:
            async with time_limit(self._bus.clock, self._timeout_s):
                begun = await self._begin(call, pump)
        except TimeoutError as error:
            text = f"no response within {self._timeout_s:g} s"
            raise CallTimeout(f"{text}; the function was cancelled. Give it more with `default_timeout`") from error
        if isinstance(begun, Reply):
            return begun
        await self._stream(*begun)
        return None

    async def _begin(self, call: asyncio.Task[Json], pump: asyncio.Task[None]) -> Reply | Begun:
        """Wait for what the response begins with, or for a whole one."""
        calling: asyncio.Task[Json] | None = call
        pumping: asyncio.Task[None] | None = pump
        reader = self._reader
        receiving = self._receive()
        open_s: float | None = None
        while True:
            try:
                async with time_limit(self._bus.clock, open_s):
                    await _first(receiving, calling, pumping)
            except TimeoutError:
                open_s = None
                if reader is not None and not reader.writer_attached:
                    return reply(None, self._function_id)
            if pumping is not None and pumping.done():
                pumping.result()
                pumping = None
            # What was written comes before what was returned (docs/workers.md#http).
            if receiving is not None and receiving.done():
                message = receiving.result()
                if isinstance(message, str):
                    self._head.apply(message)
                    receiving = self._receive()
                    continue
                whole = await self._outcome_of(calling) if message is None else None
                return whole or (receiving, calling)
            if calling is not None and calling.done():
                result = calling.result()
                if receiving is None or bytes(result) != b"null":
                    return reply(result, self._function_id)
                calling, open_s = None, ATTACH_S

    def _receive(self) -> asyncio.Task[bytes | str | None] | None:
        return self._spawn(self._reader.receive()) if self._reader is not None else None

    async def _outcome_of(self, calling: asyncio.Task[Json] | None) -> Reply | None:
        """Return the answer to a response that ended without data, if its function gave or will soon give one."""
        if calling is None:
            return None
        with contextlib.suppress(TimeoutError):
            async with time_limit(self._bus.clock, OUTCOME_S):
                await _first(calling)
        if not calling.done():
            return None
        result = calling.result()
        return None if bytes(result) == b"null" else reply(result, self._function_id)

    async def _stream(self, receiving: Any, calling: asyncio.Task[Json] | None) -> None:
        """Send data until the writer ends, or its function fails."""
        await self._start(self._head.status, self._head.headers)
        while True:
            await _first(receiving, calling)
            self._tasks.discard(receiving)
            if receiving.done():
                message = receiving.result()
                if message is None:
                    return
                if isinstance(message, bytes) and not await self._send(message):
                    return
                receiving = self._receive()
            elif calling is not None and calling.done():
                self._tasks.discard(calling)
                error = None if calling.cancelled() else calling.exception()
                if error is not None or calling.cancelled():
                    receiving.cancel()
                    raise CutOff(f"its function failed: {error or 'cancelled'}")
                calling = None

    async def _end(self, inbound: Channel | None) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for task in self._tasks:
            if not task.cancelled():
                task.exception()  # retrieved, so that it is not reported as never retrieved
        if self._reader is not None:
            await self._reader.close()
        if self._writer is not None:
            await self._writer.close()
        if inbound is not None:
            # A channel that was not opened would keep its data until it expires.
            with contextlib.suppress(LinklyError):
                await (await self._bus.open_reader(inbound.reader)).close()


async def _pump(body: Body | bytes, writer: ChannelWriter) -> None:
    """Write the body to its channel: in one part if it has been read, else part by part as it arrives."""
    try:
        if isinstance(body, bytes):
            await writer.write(body)
        else:
            async for part in body:
                await writer.write(part)
    except BodyTooLarge:
        raise
    except LinklyError:
        log.debug("the function does not read the body to its end")
        return
    # Not when the body breaks off: the function, cancelled then, must not take a part for the whole.
    await writer.close()


async def _first(*waits: asyncio.Future[Any] | None) -> None:
    await asyncio.wait([wait for wait in waits if wait is not None], return_when=asyncio.FIRST_COMPLETED)
