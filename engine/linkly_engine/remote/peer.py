"""A remote worker as the engine sees it: its frames become changes of the tables, its functions endpoints.

Registrations wait until the connection's namespace is known (protocol.md 1.4): its metadata call says so, or the
grace passes. Everything else is dealt with at once. A call from one remote worker to another is forwarded by
callback, with no task and no future of the engine's in between (measured: 6-8 us a call).
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from linkly.bus import DEFAULT_NAMESPACE, HOP_LIMIT, Endpoint, Invocation, Json
from linkly.deadline import bounded
from linkly.errors import CallTimeout, FunctionConflict, InvalidNamespace, LinklyError, Overloaded
from linkly.wire.connection import Connection, FrameStream, as_json
from linkly.wire.messages import (
    ABSENT,
    MAX_MESSAGE_BYTES,
    AnyMessage,
    EnqueueAction,
    InvokeFunction,
    Message,
    Ping,
    Pong,
    Reattach,
    RegisterFunction,
    RegisterTrigger,
    RegisterTriggerType,
    RegistrationRejected,
    TriggerRegistrationResult,
    UnregisterFunction,
    UnregisterTrigger,
    UnregisterTriggerType,
    WorkerRegistered,
    is_absent,
)
from linkly.wire.session import Session, error_body, read_error
from linkly_engine.core.provider import plain
from linkly_engine.core.records import BindingRecord, FunctionRecord, TypeRecord, WorkerRecord
from linkly_engine.core.router import check_namespace, too_many_hops
from linkly_engine.core.trace import valid_traceparent, with_function_id
from linkly_engine.enqueue import enqueue
from linkly_engine.missing import why_it_waits
from linkly_engine.remote.function import RemoteFunction, UrlFunction, endpoint_of, with_caller
from linkly_engine.remote.nesting import Nesting
from linkly_engine.remote.provider import RemoteProvider
from linkly_engine.remote.registrations import REGISTRATIONS, WAITING_LIMIT, Owned, Waiting, refusal, too_many
from linkly_engine.telemetry import events

if TYPE_CHECKING:
    from linkly_engine.engine import Engine

OLD_PYTHON_LIMIT_BYTES = 1024 * 1024
"""Python clients that do not declare `large-messages.v1` close with 1009 above this (protocol.md 1.7)."""

SERVICE_RESTART = 1012
"""Close code; after 1000, 1001 or none old Python clients stay connected to nobody (protocol.md 1.8)."""

PENDING_LIMIT = 1000
"""How many unanswered calls of one function a worker may have made: circles that no deadline reaches end here."""


class Peer:
    """One connection of one remote worker."""

    def __init__(self, engine: Engine, stream: FrameStream, *, native: bool, ip_address: str | None = None) -> None:
        self.engine = engine
        self.record = WorkerRecord(connected_at_ms=int(engine.clock.time() * 1000), ip_address=ip_address)
        self.reattach_token = secrets.token_urlsafe(24)
        self.connection = Connection(
            Session(native=native),
            stream,
            on_message=self._received,
            on_closed=self._closed,
            clock=engine.clock,
            name=self.record.id,
        )
        self._nesting = None if native else Nesting()
        self._handler_failed = partial(engine.failures.failed, self.record)
        self._provider = RemoteProvider(engine, self)
        self._owned = Owned()
        self._waiting = Waiting(self._register, self._let_in)
        self._waiting_calls: list[Callable[[], None]] = []
        self._grace = engine.clock.call_later(engine.namespace_grace_s, self._grace_over)

    def start(self) -> None:
        """Enter the tables and say hello: the first frame on every worker socket."""
        engine = self.engine
        engine.peers[self.record.id] = self
        self.connection.send(WorkerRegistered(worker_id=self.record.id, reattach_token=self.reattach_token))
        engine.tables.add_worker(self.record)

    def dismiss(self) -> None:
        """Send what is queued and say goodbye with a code after which every published client comes back."""
        self.connection.stream.close(SERVICE_RESTART, "the engine is shutting down")
        self.connection.stream_closed("the engine is shutting down")

    def cut(self, reason: str) -> None:
        """End the connection now; every client takes it for a fault and comes back."""
        self.connection.stream.abort()
        self.connection.stream_closed(reason)

    # --- namespace -----------------------------------------------------------------------------------------

    def settle(self, namespace: str) -> None:
        """Fix the namespace (the first call wins) and apply the registrations that waited for it, in order."""
        if self.record.namespace is not None:
            return
        self._grace.cancel()
        self.engine.tables.fix_namespace(self.record, namespace)
        self._waiting.let_in()

    def _let_in(self) -> None:
        if not self.connection.closed:
            events.worker_registered(self.record)
        calls, self._waiting_calls = self._waiting_calls, []
        for call in calls:
            call()

    def hold(self) -> None:
        """Let registrations wait beyond the grace: somebody else says when they are let in."""
        self._grace.cancel()

    def reject_name(self, error: LinklyError) -> None:
        """Tell the worker that its name is taken and let it go; none of its registrations is applied."""
        self._waiting.drop()
        events.name_refused(self.record, error)
        self.connection.send(
            RegistrationRejected(
                code=error.code,
                namespace=str(error.details.get("namespace", DEFAULT_NAMESPACE)),
                worker_name=str(error.details.get("worker_name", "")),
                owner_worker_id=str(error.details.get("owner_worker_id", "")),
            )
        )
        self.connection.stream.close(1008, "worker name is taken")

    def limit_frames(self, *, large_messages: bool) -> None:
        """Set the largest frame this worker takes."""
        limit = MAX_MESSAGE_BYTES if large_messages else OLD_PYTHON_LIMIT_BYTES
        self.connection.session.peer_limit_bytes = limit

    def awaits(self, namespace: str, function_id: str) -> bool:
        """Tell whether a registration of this function waits for this connection's namespace."""
        return namespace == DEFAULT_NAMESPACE and self._waiting.offers(function_id)

    @property
    def waiting_registrations(self) -> list[Message]:
        """What it has registered and what waits for its namespace."""
        return list(self._waiting)

    @property
    def waiting(self) -> int:
        """Count the registrations and calls that wait for this connection's namespace."""
        return len(self._waiting) + len(self._waiting_calls)

    def _grace_over(self) -> None:
        self.settle(DEFAULT_NAMESPACE)

    # --- frames --------------------------------------------------------------------------------------------

    def _received(self, message: AnyMessage) -> None:
        if isinstance(message, InvokeFunction):
            self._invoked(message)
        elif isinstance(message, Ping):
            self.connection.send(Pong())
        elif isinstance(message, Reattach):
            self._reattach(message)
        elif isinstance(message, TriggerRegistrationResult):
            self._provider_answered(message)
        elif isinstance(message, REGISTRATIONS):
            if self.record.namespace is not None and not self._waiting:
                self._register(message)
            elif len(self._waiting) < WAITING_LIMIT:
                self._waiting.add(message)
            else:
                self.cut(f"more than {WAITING_LIMIT} registrations before its metadata")

    def _closed(self, reason: str) -> None:
        self._grace.cancel()
        self._waiting.drop()
        calls, self._waiting_calls = self._waiting_calls, []
        self.engine.peers.pop(self.record.id, None)
        self.engine.tables.forget(self.record)
        for call in calls:
            call()
        events.worker_gone(self.record, reason)

    def _reattach(self, message: Reattach) -> None:
        old = self.engine.peers.get(message.previous_worker_id)
        token = message.reattach_token or ""
        if old is None or old is self or not secrets.compare_digest(token.encode(), old.reattach_token.encode()):
            return
        old.cut("its worker came back on a new connection")

    # --- registrations -------------------------------------------------------------------------------------

    def _register(self, message: Message) -> None:
        tables, home = self.engine.tables, self.record.home
        if not self._owned.takes(message):
            error = too_many(message)
            events.registration_refused(self.record, error)
            told = refusal(message, error, home, self.record.id)
            if told is not None:
                self.connection.send(told)
        elif isinstance(message, RegisterFunction):
            self._register_function(message)
        elif isinstance(message, UnregisterFunction):
            tables.remove_function(home, message.id, self.record)
        elif isinstance(message, RegisterTriggerType):
            record = TypeRecord(
                id=message.id,
                namespace=message.namespace or home,
                provider=self._provider,
                owner=self.record,
                description=message.description or "",
                config_schema=plain(message.trigger_request_format),
                payload_schema=plain(message.call_request_format),
            )
            tables.add_type(record)
        elif isinstance(message, UnregisterTriggerType):
            tables.remove_type(message.namespace or home, message.id, self.record)
        elif isinstance(message, RegisterTrigger):
            self._register_trigger(message)
        elif isinstance(message, UnregisterTrigger):
            self._unregister_trigger(message)

    def _register_function(self, message: RegisterFunction) -> None:
        record = FunctionRecord(
            id=message.id,
            namespace=self.record.home,
            endpoint=endpoint_of(message, self.connection, self.record, self._nesting, self._handler_failed),
            owner=self.record,
            description=message.description,
            request_schema=plain(message.request_format),
            response_schema=plain(message.response_format),
            metadata=plain(message.metadata),
        )
        try:
            self.engine.tables.add_function(record)
        except FunctionConflict as error:
            events.registration_refused(self.record, error)
            self.connection.send(
                RegistrationRejected(
                    code=error.code,
                    namespace=record.namespace,
                    function_id=record.id,
                    owner_worker_id=str(error.details["owner_worker_id"]),
                )
            )
            self.engine.tables.keep_waiting(record)
        else:
            if isinstance(record.endpoint, UrlFunction):
                events.function_not_callable(self.record, record.endpoint.reason)
            else:
                events.function_registered(self.record, record.id)

    def _register_trigger(self, message: RegisterTrigger) -> None:
        binding = BindingRecord(
            id=message.id,
            trigger_type=message.trigger_type,
            function_id=message.function_id,
            owner=self.record,
            config=message.config if not is_absent(message.config) else None,
            metadata=message.metadata if not is_absent(message.metadata) else None,
            namespace=message.namespace if message.namespace is not None else DEFAULT_NAMESPACE,
            trigger_namespace=message.trigger_namespace,
        )
        try:
            check_namespace(message.namespace)
            check_namespace(message.trigger_namespace)
        except InvalidNamespace as error:
            self.tell_refusal(binding, error_body(error))
            return
        self.engine.tables.bind(binding)
        events.trigger_registered(self.record, binding, why_it_waits(binding))

    def _unregister_trigger(self, message: UnregisterTrigger) -> None:
        # One that retires takes back by id what its next generation has registered under the same id: no news.
        if not self.engine.tables.unbind(message.id, self.record) and not self.record.retiring:
            events.trigger_not_theirs(self.record, self.engine.tables.triggers.find_binding(message.id))

    def _provider_answered(self, message: TriggerRegistrationResult) -> None:
        if is_absent(message.error):
            self._provider.answered(message.id, None)
            return
        binding = self.engine.tables.triggers.find_binding(message.id)
        if binding is None or binding.live_at is None or binding.live_at.owner is not self.record:
            return
        self._provider.answered(message.id, read_error(message.error))
        self.engine.tables.refuse(message.id, self.record, message.error)

    def tell_refusal(self, binding: BindingRecord, error: Json) -> None:
        """Tell this worker that a trigger it registered was refused."""
        self.connection.send(
            TriggerRegistrationResult(
                id=binding.id,
                trigger_type=binding.trigger_type,
                function_id=binding.function_id,
                error=error,
            )
        )

    # --- calls ---------------------------------------------------------------------------------------------

    def _invoked(self, message: InvokeFunction, *, again: bool = False) -> None:
        invocation = self._invocation(message)
        waits = message.invocation_id is not None and (
            message.action is None or isinstance(message.action, EnqueueAction)
        )
        invocation_id = message.invocation_id if waits else None
        session = self.connection.session
        if invocation_id is not None and invocation_id in session.serving and not again:
            return  # the same frame twice: its call is answered once
        refusal = self._refusal(invocation, session.pending.get(message.function_id, 0) - again)  # not itself
        if refusal is not None:
            self._failed(message, invocation_id, refusal)
            return
        if isinstance(message.action, EnqueueAction):
            queue = message.action.queue
            self.connection.serve(partial(self._enqueue, queue=queue), invocation, invocation_id)
            return
        try:
            endpoint = self.engine.router.resolve(message.namespace, message.function_id).endpoint
        except LinklyError as error:
            if not again and self._retry_later(message):
                return
            self._failed(message, invocation_id, error)
            return
        if isinstance(endpoint, RemoteFunction):
            self._forward(endpoint, invocation, message, invocation_id)
        elif self._nesting is not None and invocation.deadline is not None:
            self.connection.serve(partial(self._in_time, endpoint), invocation, invocation_id)
        else:
            self.connection.serve(endpoint, invocation, invocation_id)

    async def _in_time(self, endpoint: Endpoint, invocation: Invocation) -> Any:
        """Serve a call no longer than the one it is nested in may take: its wire has no word for a cancellation."""
        assert invocation.deadline is not None
        left_s = math.ceil(
            invocation.deadline - self.engine.clock.monotonic()
        )  # whole: waits of a length share a timer
        call: Any = endpoint(invocation)
        return await bounded(call, self.engine.deadlines, max(1, left_s), invocation.function_id)

    def _refusal(self, invocation: Invocation, pending: int) -> LinklyError | None:
        """Return why a call that came in is not made: nobody waits for it, or it would go on without end."""
        if invocation.hops > HOP_LIMIT:
            return too_many_hops(invocation.function_id)
        if invocation.deadline is not None and invocation.deadline <= self.engine.clock.monotonic():
            return CallTimeout(
                f"`{invocation.function_id}` was not called: the time of the call that it is nested in is over"
            )
        if pending >= PENDING_LIMIT:
            return Overloaded(
                f"`{invocation.function_id}` was not called: worker `{self.record.name or self.record.id}` waits for "
                f"{pending} answers of it already; wait for some of them first"
            )
        return None

    def _invocation(self, message: InvokeFunction) -> Invocation:
        traceparent = valid_traceparent(message.traceparent)
        baggage = message.baggage
        if traceparent is not None or baggage is not None:
            baggage = with_function_id(baggage, message.function_id)
        invocation = Invocation(
            function_id=message.function_id,
            payload=None if is_absent(message.data) else message.data,
            namespace=message.namespace if message.namespace is not None else DEFAULT_NAMESPACE,
            metadata=None if is_absent(message.metadata) else message.metadata,
            caller=self.record.caller,
            origin=self.record.id,
            traceparent=traceparent,
            baggage=baggage,
            not_finite=message.not_finite,
        )
        if self._nesting is None:
            invocation.hops = message.hops
            if message.timeout_ms is not None:
                invocation.deadline = self.engine.clock.monotonic() + message.timeout_ms / 1000
        elif message.action is None:
            self._nesting.place(invocation)
        return invocation

    def _forward(
        self,
        endpoint: RemoteFunction,
        invocation: Invocation,
        message: InvokeFunction,
        invocation_id: str | None,
    ) -> None:
        if not endpoint.connection.session.native:
            invocation.payload = with_caller(message.data, self.record.id)
        if invocation_id is None:
            done: Callable[[Json, Json], None] = partial(_unattended, endpoint, invocation)
        else:
            done = partial(self._forwarded, endpoint, invocation, message, invocation_id)
        try:
            abandon = endpoint.start(invocation, done)
        except LinklyError as error:
            self._failed(message, invocation_id, error)
            return
        if invocation_id is not None:
            self.connection.session.begin(invocation_id, message.function_id, abandon)

    def _forwarded(
        self,
        endpoint: RemoteFunction,
        invocation: Invocation,
        message: InvokeFunction,
        invocation_id: str,
        result: Json,
        error: Json,
    ) -> None:
        if not is_absent(error):
            endpoint.failed(invocation, read_error(error))
        self._answered(message, invocation_id, result, error)

    def _answered(self, message: InvokeFunction, invocation_id: str, result: Json, error: Json) -> None:
        self.connection.answer(
            invocation_id,
            message.function_id,
            result,
            error,
            traceparent=message.traceparent,
            baggage=message.baggage,
        )

    def _failed(self, message: InvokeFunction, invocation_id: str | None, error: LinklyError) -> None:
        if invocation_id is None:
            events.unattended_failed(message.function_id, ABSENT, error_body(error))
        else:
            self._answered(message, invocation_id, ABSENT, error_body(error))

    def _retry_later(self, message: InvokeFunction) -> bool:
        """Let a call wait for a registration that waits itself: clients flush calls before their metadata."""
        namespace = message.namespace if message.namespace is not None else DEFAULT_NAMESPACE
        for peer in self.engine.peers.values():
            if peer.awaits(namespace, message.function_id) and len(peer._waiting_calls) < WAITING_LIMIT:
                if message.invocation_id is not None and message.action is None:
                    self.connection.session.begin(message.invocation_id, message.function_id, _nothing)
                peer._waiting_calls.append(partial(self._invoke_again, message))
                return True
        return False

    def _invoke_again(self, message: InvokeFunction) -> None:
        waits = message.invocation_id is not None and message.action is None
        if self.connection.closed or (waits and message.invocation_id not in self.connection.session.serving):
            return
        self._invoked(message, again=True)

    async def _enqueue(self, invocation: Invocation, *, queue: str) -> Json:
        check_namespace(invocation.namespace)
        return as_json(await enqueue(self.engine, invocation, queue))


def _unattended(endpoint: RemoteFunction, invocation: Invocation, result: Json, error: Json) -> None:
    if is_absent(error):
        return
    failure = read_error(error)
    endpoint.failed(invocation, failure)
    if failure.error_id is None:
        events.unattended_failed(invocation.function_id, result, error)


def _nothing() -> None:
    pass
