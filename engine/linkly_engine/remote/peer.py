"""A remote worker as the engine sees it: its frames become changes of the tables, its functions endpoints.

Registrations wait until the connection's namespace is known (protocol.md 1.4): its metadata call says so, or the
grace passes. Everything else is dealt with at once. A call from one remote worker to another is forwarded by
callback, with no task and no future of the engine's in between (measured: 6-8 us a call).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from linkly.errors import FunctionConflict, HandlerFailed, InvalidNamespace, InvalidResult, LinklyError
from linkly.invocation import DEFAULT_NAMESPACE, Json
from linkly.outcome import error_body, is_absent, read_error
from linkly.wire.connection import Connection, FrameStream
from linkly.wire.messages import (
    MAX_MESSAGE_BYTES,
    AnyMessage,
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
)
from linkly_engine.core.enqueue import enqueue
from linkly_engine.core.missing import why_it_waits
from linkly_engine.core.provider import plain
from linkly_engine.core.records import BindingRecord, FunctionRecord, TypeRecord, WorkerRecord
from linkly_engine.core.router import check_namespace
from linkly_engine.remote.calls import Calls
from linkly_engine.remote.function import UrlFunction, endpoint_of
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


class Peer:
    """One connection of one remote worker."""

    def __init__(self, engine: Engine, stream: FrameStream, *, native: bool, ip_address: str | None = None) -> None:
        self.engine = engine
        self.record = WorkerRecord(connected_at_ms=int(engine.clock.time() * 1000), ip_address=ip_address)
        self.reattach_token = secrets.token_urlsafe(24)
        self.connection = Connection(
            stream,
            native=native,
            on_message=self._received,
            on_closed=self._closed,
            clock=engine.clock,
            name=self.record.id,
            logged_elsewhere=(HandlerFailed, InvalidResult),  # by `failures`
        )
        self._nesting = None if native else Nesting()
        self._calls = Calls(
            self.connection,
            self.record,
            self._nesting,
            router=engine.router,
            clock=engine.clock,
            deadlines=engine.deadlines,
            enqueue=partial(enqueue, engine.router.call),
            wait=lambda namespace, function_id, call: any(
                peer.let_wait(namespace, function_id, call) for peer in engine.peers.values()
            ),
        )
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
        self.connection.limit_frames(limit)

    def let_wait(self, namespace: str, function_id: str, call: Callable[[], None]) -> bool:
        """Let a call wait for this connection's namespace, if a registration of its function does: clients send calls
        before their metadata; return whether it waits.
        """
        if namespace != DEFAULT_NAMESPACE or not self._waiting.offers(function_id):
            return False
        if len(self._waiting_calls) >= WAITING_LIMIT:
            return False
        self._waiting_calls.append(call)
        return True

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
            self._calls.made(message)
        elif isinstance(message, Ping):
            self.connection.send(Pong())
        elif isinstance(message, Reattach):
            self._reattach(message)
        elif isinstance(message, TriggerRegistrationResult):
            self._provider_answered(message)
        elif isinstance(message, REGISTRATIONS):
            self.engine.tables.join(self.record)
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
