"""What one remote worker registers: its messages become changes of the tables, and it is told what is refused.

A connection owns a bounded number of things: all are removed in one turn of the loop when it ends.
"""

from __future__ import annotations

from functools import partial

from linkly.errors import FunctionConflict, InvalidNamespace, LinklyError, Overloaded
from linkly.invocation import DEFAULT_NAMESPACE, Json
from linkly.outcome import error_body, is_absent, read_error
from linkly.wire.connection import Connection
from linkly.wire.messages import (
    Message,
    RegisterFunction,
    RegisterTrigger,
    RegisterTriggerType,
    RegistrationRejected,
    TriggerRegistrationResult,
    UnregisterFunction,
    UnregisterTrigger,
    UnregisterTriggerType,
)
from linkly_engine.core.exchange import Exchange
from linkly_engine.core.missing import why_it_waits
from linkly_engine.core.provider import plain
from linkly_engine.core.records import BindingRecord, FunctionRecord, TypeRecord, WorkerRecord
from linkly_engine.core.router import check_namespace
from linkly_engine.core.tables import Tables
from linkly_engine.remote.function import RemoteFunction, refusing, why_not_callable
from linkly_engine.remote.nesting import Nesting
from linkly_engine.remote.provider import RemoteProvider
from linkly_engine.telemetry import events

OWNED_LIMIT = 10_000
"""Functions, triggers and trigger types of one connection together."""

_MADE = (RegisterFunction, RegisterTriggerType, RegisterTrigger)
_TAKEN_BACK: dict[type[Message], type[Message]] = {
    UnregisterFunction: RegisterFunction,
    UnregisterTriggerType: RegisterTriggerType,
    UnregisterTrigger: RegisterTrigger,
}
REGISTRATIONS: tuple[type[Message], ...] = (*_MADE, *_TAKEN_BACK)


class Registrations:
    """The registrations of one connection."""

    __slots__ = (
        "_connection",
        "_failed",
        "_nesting",
        "_owned",
        "_provider",
        "_record",
        "_tables",
    )

    def __init__(
        self,
        connection: Connection,
        record: WorkerRecord,
        nesting: Nesting | None,
        exchange: Exchange,
    ) -> None:
        self._connection = connection
        self._record = record
        self._tables = exchange.tables
        self._nesting = nesting
        self._failed = partial(exchange.failed, record)
        # Not a method of this object, which knows the provider: what is gone must not wait for the garbage collector.
        refuse = partial(_refuse, exchange.tables, record)
        self._provider = RemoteProvider(connection.send, refuse, exchange.clock)
        self._owned = Owned()

    def apply(self, message: Message) -> None:
        """Register something, or take it back."""
        tables, home = self._tables, self._record.home
        if not self._owned.takes(message):
            self._refuse_for_number(message)
        elif isinstance(message, RegisterFunction):
            self._register_function(message)
        elif isinstance(message, UnregisterFunction):
            tables.remove_function(home, message.id, self._record)
        elif isinstance(message, RegisterTriggerType):
            record = TypeRecord(
                id=message.id,
                namespace=message.namespace or home,
                provider=self._provider,
                owner=self._record,
                description=message.description or "",
                config_schema=plain(message.trigger_request_format),
                payload_schema=plain(message.call_request_format),
            )
            tables.add_type(record)
        elif isinstance(message, UnregisterTriggerType):
            tables.remove_type(message.namespace or home, message.id, self._record)
        elif isinstance(message, RegisterTrigger):
            self._register_trigger(message)
        elif isinstance(message, UnregisterTrigger):
            self._unregister_trigger(message)

    def _register_function(self, message: RegisterFunction) -> None:
        reason = (
            None
            if is_absent(message.invocation)
            else why_not_callable(message.id, self._record.name or self._record.id)
        )
        record = FunctionRecord(
            id=message.id,
            namespace=self._record.home,
            # One that is to be called at a URL is registered too: a rejection would end clients of 0.25.
            endpoint=RemoteFunction(self._connection, self._nesting, self._failed)
            if reason is None
            else refusing(reason),
            owner=self._record,
            description=message.description,
            request_schema=plain(message.request_format),
            response_schema=plain(message.response_format),
            metadata=plain(message.metadata),
        )
        try:
            self._tables.add_function(record)
        except FunctionConflict as error:
            events.registration_refused(self._record, error)
            self._tell_rejection(record.id, error, owner_id=str(error.details["owner_worker_id"]))
            self._tables.keep_waiting(record)
        else:
            if reason is None:
                events.function_registered(self._record, record.id)
            else:
                events.function_not_callable(self._record, reason)

    def _register_trigger(self, message: RegisterTrigger) -> None:
        binding = BindingRecord(
            id=message.id,
            trigger_type=message.trigger_type,
            function_id=message.function_id,
            owner=self._record,
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
        self._tables.bind(binding)
        events.trigger_registered(self._record, binding, why_it_waits(binding))

    def _unregister_trigger(self, message: UnregisterTrigger) -> None:
        # A worker that retires takes back ids that its next generation has registered anew: not worth a line.
        known = self._tables.unbind(message.id, self._record, leaving=message.leaving)
        if not known and not self._record.retiring:
            events.trigger_not_theirs(self._record, self._tables.triggers.find_binding(message.id))

    def provider_answered(self, message: TriggerRegistrationResult) -> None:
        """This worker has acknowledged or refused a binding of a trigger type that it provides."""
        if is_absent(message.error):
            self._provider.answered(message.id, None)
            return
        binding = self._tables.triggers.find_binding(message.id)
        if binding is None or binding.live_at is None or binding.live_at.owner is not self._record:
            return
        self._provider.answered(message.id, read_error(message.error))
        self._tables.refuse(message.id, self._record, message.error)

    def _refuse_for_number(self, message: Message) -> None:
        error = Overloaded(
            f"`{getattr(message, 'id', '')}` was not registered: this connection has {OWNED_LIMIT} functions, triggers "
            "and trigger types, and none may have more; take some back, or use further connections"
        )
        events.registration_refused(self._record, error)
        if isinstance(message, RegisterFunction):
            self._tell_rejection(message.id, error, owner_id=self._record.id)
        elif isinstance(message, RegisterTrigger):
            self.tell_refusal(message, error_body(error))

    def _tell_rejection(self, function_id: str, error: LinklyError, *, owner_id: str) -> None:
        self._connection.send(
            RegistrationRejected(
                code=error.code, namespace=self._record.home, function_id=function_id, owner_worker_id=owner_id
            )
        )

    def tell_refusal(self, binding: BindingRecord | RegisterTrigger, error: Json) -> None:
        """Tell this worker that a trigger it registered was refused."""
        self._connection.send(
            TriggerRegistrationResult(
                id=binding.id,
                trigger_type=binding.trigger_type,
                function_id=binding.function_id,
                error=error,
            )
        )


def _refuse(tables: Tables, record: WorkerRecord, binding_id: str, error: Json) -> None:
    tables.refuse(binding_id, record, error)


class Owned:
    """Counts what one connection has registered, each kind and id once."""

    __slots__ = ("_all",)

    def __init__(self) -> None:
        self._all: dict[tuple[type[Message], str], None] = {}  # an empty set has 216 bytes

    def takes(self, message: Message) -> bool:
        """Note a message that registers something or takes it back; `False`: that would be too much."""
        kind = type(message)
        if isinstance(message, _MADE):
            if len(self._all) >= OWNED_LIMIT and (kind, message.id) not in self._all:
                return False
            self._all[kind, message.id] = None
        elif kind in _TAKEN_BACK:
            self._all.pop((_TAKEN_BACK[kind], str(getattr(message, "id", ""))), None)
        return True
