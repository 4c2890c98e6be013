"""A `Bus` over a connection: connects, serves, calls, and after a loss connects again.

What is promised across a reconnect:

* every registration is kept and replayed, in the order types, functions, triggers; none is ever lost;
* a call that was on its way when the connection was lost fails at once with `ConnectionLost`: nobody can know
  whether it ran, so only its caller can decide to repeat it;
* a call made while there is no connection waits for one, within its own time-out, and is then sent;
* what this side was serving is cancelled: the engine has told the callers `invocation_stopped`;
* the engine is told of every earlier connection that it may still take for alive (behind a proxy that holds a cut one
  open, for example): it ends them, and this connection serves what they served.

A worker whose name another program has is told so (`WorkerConflict`, and one ERROR line), and goes on trying: it gets
in when the name is free.

The wait between attempts doubles from 0.1 s to 10 s, with 30 % jitter, without end.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
from contextlib import suppress
from functools import partial
from typing import Any, cast

from linkly.announce import metadata
from linkly.bus import Action, Enqueue, Receipt, Registration, Void
from linkly.channel import Channel, ChannelReader, ChannelRef, ChannelWriter
from linkly.clock import Clock, SystemClock
from linkly.context import current_invocation
from linkly.deadline import Deadlines, bounded
from linkly.errors import CallTimeout, InvalidPayload, InvalidResult, LinklyError, Shutdown, WorkerConflict
from linkly.function import Function
from linkly.invocation import DEFAULT_TIMEOUT_S, InPlace, Invocation, Json
from linkly.outcome import ABSENT, is_absent, read_error
from linkly.registered import Registered
from linkly.schema import as_json, codec_of, decode, payload_json, payload_text
from linkly.trigger import TriggerDeclaration, TriggerType
from linkly.wire.connection import FramesReceiver, FrameStream
from linkly.wire.dialer import Dialer, PortDialer
from linkly.wire.messages import (
    AnyMessage,
    EnqueueAction,
    InvokeFunction,
    Message,
    Reattach,
    RegisterTrigger,
    RegistrationRejected,
    TriggerRegistrationResult,
    UnregisterFunction,
    UnregisterTrigger,
    VoidAction,
    WorkerRegistered,
)
from linkly.wire.worker_connection import WorkerConnection

log = logging.getLogger("linkly.client")

_current = current_invocation.get

FIRST_WAIT_S, LONGEST_WAIT_S, JITTER = 0.1, 10.0, 0.3
DRAIN_S = 5.0

EARLIER_LIMIT = 16
"""How many earlier connections the engine is told of: those in a row that ended before it answered on one of them."""


class Client:
    """One worker's connection to an engine, `async with` it.

    Args:
        url: `ws://host:port` of the engine's worker port.
        name: Of this worker; default: host:pid.
        namespace: Where its functions are found; default: `default`.
        description: One line for people.
        dialer: How to reach the engine; default: by the worker port at `url`.
        clock: For time-outs and back-off.
        wait: Whether `async with` waits for the first connection.

    Raises:
        WorkerConflict: From any call as long as another program has this name.
    """

    def __init__(
        self,
        url: str = "ws://127.0.0.1:49134",
        *,
        name: str | None = None,
        namespace: str | None = None,
        description: str | None = None,
        dialer: Dialer | None = None,
        clock: Clock | None = None,
        wait: bool = True,
    ) -> None:
        self.url = url
        self.name = name or f"{socket.gethostname()}:{os.getpid()}"
        self.namespace = namespace
        self.description = description
        self.worker_id: str | None = None
        self._clock: Clock = clock or SystemClock()
        self._dialer: Dialer = dialer or PortDialer(url)
        self._wait = wait
        self._deadlines = Deadlines(self._clock)
        self._registered = Registered(self._send_if_connected)
        self._connection: WorkerConnection | None = None
        self._live: WorkerConnection | None = None  # on it this worker has its name and its registrations are said
        self._connected = asyncio.Event()
        self._lost = asyncio.Event()
        self._failure: LinklyError | None = None
        self._conflict: WorkerConflict | None = None
        self._greeted = False
        self._admitted = False
        self._identity: Reattach | None = None
        self._earlier: list[Reattach] = []
        self._loop_task: asyncio.Task[None] | None = None

    # --- lifetime ------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Client:
        self._loop_task = asyncio.get_running_loop().create_task(self._stay_connected(), name="linkly client")
        try:
            if self._wait:
                with suppress(WorkerConflict):  # the log says so, and the name may become free
                    await self.wait_connected()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave: take no more calls, finish the ones being served (for at most 5 s), close."""
        self._failure = self._failure or Shutdown(f"worker `{self.name}` has shut down")
        self._live = None
        if self._loop_task is not None:
            self._loop_task.cancel()
            await asyncio.wait([self._loop_task])
        connection = self._connection
        if connection is not None and not connection.closed:
            for function_id in self._registered.functions:
                connection.send(UnregisterFunction(id=function_id))
            with suppress(CallTimeout):
                await bounded(connection.drain(), self._deadlines, DRAIN_S, "drain")
            connection.stream.close(1000, "worker leaves")
            connection.stream_closed("this worker has left")
        self._registered.types.stop()
        self._deadlines.close()
        self._connected.set()

    @property
    def clock(self) -> Clock:  # noqa: D102
        return self._clock

    @property
    def connected(self) -> bool:
        """Whether there is a connection now, on which this worker has its name."""
        return self._connection is not None and not self._connection.closed and self._conflict is None

    async def wait_connected(self) -> None:
        """Wait for a connection.

        Raises:
            WorkerConflict: Another program has this worker's name.
            Shutdown: There will be none: this client has been closed.
        """
        await self._live_connection()

    async def _stay_connected(self) -> None:
        wait_s = FIRST_WAIT_S
        while self._failure is None:
            self._lost.clear()
            try:
                await self._dialer.connect(self._attach)
            except (OSError, LinklyError) as error:
                log.info("no connection to %s yet: %s", self.url, error)
            else:
                self._greet()
                await self._lost.wait()
                if self._admitted:
                    wait_s = FIRST_WAIT_S
            await self._clock.sleep(wait_s * random.uniform(1 - JITTER, 1 + JITTER))
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    def _attach(self, stream: FrameStream, native: bool) -> FramesReceiver:
        # Not in `_greet`: the engine's first frame sets this connection's own identity, and may arrive before it runs.
        if self._identity is not None:
            self._earlier = [*self._earlier, self._identity][-EARLIER_LIMIT:]
            self._identity = None
        self._greeted = self._admitted = False
        self._connection = WorkerConnection(
            stream,
            native=native,
            on_message=self._received,
            on_closed=self._closed,
            clock=self._clock,
            deadlines=self._deadlines,
            functions=self._registered.functions,
            worker_name=self.name,
            name=f"the engine at {self.url}",
        )
        return self._connection

    def _greet(self) -> None:
        connection = self._connection
        if connection is None or connection.closed:
            return
        for earlier in self._earlier:
            connection.send(earlier)
        connection.start_call(
            Invocation(
                function_id="engine::workers::register", payload=metadata(self.name, self.namespace, self.description)
            ),
            partial(self._told_the_name, connection),
        )
        for message in self._registered.messages():
            connection.send(message)
        self._greeted = True
        if self._conflict is None:
            self._goes_live(connection)

    def _told_the_name(self, connection: WorkerConnection, result: Json, error: Json) -> None:
        """Take the answer to the metadata call: the engine has handled everything that was sent before it."""
        if connection is not self._connection or connection.closed:
            return
        if not is_absent(error):
            log.error("the engine does not take what worker `%s` says about itself: %s", self.name, read_error(error))
            return
        answer = None if is_absent(result) else decode(result)
        if isinstance(answer, dict) and cast("dict[str, Any]", answer).get("success") is False:
            return
        self._admitted = True
        self._earlier.clear()
        if self._conflict is not None:
            self._conflict = None
            log.info("worker name `%s` is free: this worker has it now", self.name)
            self._goes_live(connection)

    def _goes_live(self, connection: WorkerConnection) -> None:
        if self._failure is None:
            self._live = connection
        self._connected.set()

    def _closed(self, reason: str) -> None:
        self._greeted = False
        self._live = None
        self._connected.clear()
        self._lost.set()
        if self._failure is None and self._conflict is None:
            log.warning("lost the connection to %s: %s", self.url, reason)

    async def _live_connection(self) -> WorkerConnection:
        while self._failure is None:
            if self._conflict is not None:
                raise WorkerConflict(self._conflict.message, details=self._conflict.details)
            if self._live is not None:
                return self._live
            await self._connected.wait()
        raise self._failure

    # --- frames from the engine ----------------------------------------------------------------------------

    def _received(self, message: AnyMessage) -> None:
        if isinstance(message, WorkerRegistered):
            self.worker_id = message.worker_id
            self._identity = Reattach(previous_worker_id=message.worker_id, reattach_token=message.reattach_token)
        elif isinstance(message, (RegisterTrigger, UnregisterTrigger)):
            self._registered.types.take(message)
        elif isinstance(message, TriggerRegistrationResult):
            log.error(
                "trigger `%s` of `%s` was refused: %s",
                message.trigger_type,
                message.function_id,
                read_error(message.error) if not is_absent(message.error) else "no reason given",
            )
        elif isinstance(message, RegistrationRejected):
            self._rejected(message)

    def _rejected(self, message: RegistrationRejected) -> None:
        if message.worker_name is None:
            log.error(
                "function `%s` is served by another worker (%s) in namespace `%s`: calls go there until it is gone",
                message.function_id,
                message.owner_worker_id,
                message.namespace,
            )
            return
        again, self._admitted, self._live = self._conflict is not None, False, None
        self._conflict = WorkerConflict(
            f"worker name `{message.worker_name}` is taken in namespace `{message.namespace}` by worker "
            f"{message.owner_worker_id}; choose another name, or end that one: it gets in when the name is free",
            details={"owner_worker_id": message.owner_worker_id},
        )
        log.log(logging.DEBUG if again else logging.ERROR, "%s", self._conflict.message)
        self._connected.set()  # whoever waits for a connection is told
        connection = cast("WorkerConnection", self._connection)
        connection.stream.close(1000, "the name of this worker is taken")
        connection.stream_closed("the name of this worker is taken", self._conflict)

    # --- Bus -----------------------------------------------------------------------------------------------

    async def trigger(  # noqa: D102
        self,
        function_id: str,
        payload: object = None,
        *,
        result_type: Any = Any,
        namespace: str | None = None,
        metadata: object = None,
        action: Action | None = None,
        timeout_s: float | None = DEFAULT_TIMEOUT_S,
        grace_s: float = 0.0,
    ) -> Any:
        parent = _current()
        if type(payload) is InPlace:
            payload = payload.payload
        connection = self._live
        plain = metadata is None and (parent is None or (parent.traceparent is None and parent.baggage is None))
        if connection is not None and action is None and plain:
            call = connection.call_plain(function_id, payload_text(payload), timeout_s, namespace, parent)
            try:  # what `outcome` does: its coroutine would take 0.1 us
                result = await call.answer
            except asyncio.CancelledError:
                call.give_up()
                raise
            finally:
                call.disarm()
        else:
            invocation = self._invocation(function_id, payload, metadata, action, parent)
            if connection is not None and action is None:
                result = await connection.call(invocation, timeout_s, namespace=namespace).outcome()
            else:
                if timeout_s is not None and action is None:
                    deadline = self._clock.monotonic() + timeout_s
                    if invocation.deadline is None or deadline < invocation.deadline:
                        invocation.deadline = deadline
                started = self._call(invocation, namespace, action)
                bound = started if timeout_s is None else bounded(started, self._deadlines, timeout_s, function_id)
                result = await bound
        if result_type is Any and action is None:
            try:
                return decode(result) if result else None
            except InvalidPayload as error:  # from one native connection to another nobody has looked at it
                raise InvalidResult(f"the answer of `{function_id}` cannot be read: {error.message}") from error
        value = Json(result) if result else None
        if result_type is Json:
            return as_json(value)
        if result_type is InPlace:
            return value
        if isinstance(action, Enqueue):
            return codec_of(Receipt).read(value, "an enqueue's receipt")
        if isinstance(action, Void):
            return None
        return codec_of(result_type).read(value, f"the caller of `{function_id}` (its result)")

    @staticmethod
    def _invocation(
        function_id: str, payload: object, metadata: object, action: Action | None, parent: Invocation | None
    ) -> Invocation:
        invocation = Invocation(function_id=function_id, payload=payload_json(payload), metadata=metadata)
        if parent is not None:
            invocation.traceparent, invocation.baggage = parent.traceparent, parent.baggage
            if action is None:
                invocation.deadline, invocation.hops = parent.deadline, parent.hops + 1
        return invocation

    async def _call(self, invocation: Invocation, namespace: str | None, action: Action | None) -> bytes:
        connection = await self._live_connection()
        if isinstance(action, Void):
            connection.send(
                InvokeFunction(
                    function_id=invocation.function_id,
                    data=cast("Json", invocation.payload),
                    metadata=ABSENT if invocation.metadata is None else as_json(invocation.metadata),
                    traceparent=invocation.traceparent,
                    baggage=invocation.baggage,
                    namespace=namespace,
                    action=VoidAction(),
                )
            )
            return b""
        queued = None if action is None else EnqueueAction.of(action)
        return await connection.call(invocation, None, namespace=namespace, action=queued).outcome()

    def register_function(self, function: Function) -> Registration:  # noqa: D102
        return self._registered.add_function(function)

    def register_trigger_type(self, trigger_type: TriggerType) -> Registration:  # noqa: D102
        return self._registered.add_type(trigger_type)

    def register_trigger(self, function_id: str, trigger: TriggerDeclaration) -> Registration:  # noqa: D102
        return self._registered.add_trigger(function_id, trigger, trigger.namespace or self.namespace)

    async def create_channel(self, buffer_size: int | None = None) -> Channel:  # noqa: D102
        payload = {"buffer_size": buffer_size}
        channel: Channel = await self.trigger("engine::channels::create", payload, result_type=Channel)
        return channel

    async def open_reader(self, reference: ChannelRef) -> ChannelReader:  # noqa: D102
        return await self._dialer.open_reader(reference)

    async def open_writer(self, reference: ChannelRef) -> ChannelWriter:  # noqa: D102
        return await self._dialer.open_writer(reference)

    def _send_if_connected(self, message: Message) -> None:
        """Send a message over the present connection; without one, the next connection replays it."""
        connection = self._connection
        if connection is not None and not connection.closed and self._greeted:
            connection.send(message)
