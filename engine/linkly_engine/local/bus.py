"""The bus as an in-process worker sees it: straight into the engine's tables.

A call is one look-up, the endpoint awaited in the caller's own task, and the result decoded. It makes no task, and a
time-out is armed only for the outermost call and only if it suspends.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import WeakSet

import msgspec

from linkly.bus import (
    DEFAULT_NAMESPACE,
    DEFAULT_TIMEOUT_S,
    HOP_LIMIT,
    Action,
    Enqueue,
    InPlace,
    Invocation,
    Json,
    Receipt,
    Registration,
)
from linkly.channel import Channel, ChannelReader, ChannelRef, ChannelWriter
from linkly.clock import Clock
from linkly.context import current_invocation
from linkly.deadline import bounded, suspended
from linkly.errors import InvalidResult, LinklyError
from linkly.function import ENDED, Function
from linkly.schema import as_json, codec_of, encode, payload_json
from linkly.trigger import TriggerDeclaration, TriggerType
from linkly.wire.messages import EnqueueAction
from linkly_engine.core.enqueue import enqueue
from linkly_engine.core.exchange import Exchange
from linkly_engine.core.records import BindingRecord, FunctionRecord, TypeRecord, WorkerRecord
from linkly_engine.core.router import check_namespace, too_many_hops
from linkly_engine.local.channels import LocalReader, LocalWriter
from linkly_engine.local.provider import LocalProvider

log = logging.getLogger("linkly.engine")

_current = current_invocation.get
_decode_any = msgspec.json.Decoder().decode
_SCALARS = frozenset((str, int, float, bool, type(None)))


class LocalBus:
    """`linkly.bus.Bus` inside the engine's process."""

    def __init__(self, exchange: Exchange, record: WorkerRecord) -> None:
        self._exchange = exchange
        self.record = record
        self._caller = record.caller
        self._in_default = exchange.tables.functions.in_default
        self._monotonic = exchange.clock.monotonic
        self.before_first_registration: Callable[[], None] | None = None
        self._functions: WeakSet[Function] = WeakSet()

    @property
    def clock(self) -> Clock:  # noqa: D102
        return self._exchange.clock

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
        caller = self._caller
        in_place: type | None = None
        if type(payload) is InPlace:
            in_place, payload = payload.answer, payload.payload
        now, find = self._monotonic, self._in_default  # called by name: see `linkly.function`
        if namespace is None:
            namespace = DEFAULT_NAMESPACE
        deadline = None if timeout_s is None else now() + timeout_s
        if parent is None:
            invocation = Invocation(
                function_id=function_id,
                payload=payload,
                namespace=namespace,
                metadata=metadata,
                caller=caller,
                origin=caller.worker_id,
                deadline=deadline,
                in_place=in_place,
            )
        else:
            if parent.hops >= HOP_LIMIT and action is None:
                raise too_many_hops(function_id)
            # Inside a handler whose own deadline comes first, that one ends this call too.
            if parent.deadline is not None and (deadline is None or deadline >= parent.deadline):
                deadline, timeout_s = parent.deadline, None
            invocation = Invocation(
                function_id=function_id,
                payload=payload,
                namespace=namespace,
                metadata=metadata,
                caller=caller,
                origin=caller.worker_id if parent.origin is None else parent.origin,
                traceparent=parent.traceparent,
                baggage=parent.baggage,
                deadline=deadline,
                hops=parent.hops + 1,
                in_place=in_place,
            )
        if action is not None:
            return await self._act(action, invocation, timeout_s)
        if grace_s:
            invocation.grace_s = grace_s
        record = find(function_id) if namespace == DEFAULT_NAMESPACE else None
        if record is None:
            record = self._exchange.router.resolve(namespace, function_id)
        endpoint = record.endpoint
        # `endpoint(invocation)` takes 0.1 us more: the interpreter looks for a method then.
        call: Any = endpoint.__call__(invocation)
        if timeout_s is None:
            result = await call
        elif type(endpoint) is Function:
            awaited = next(call, ENDED)
            if awaited is ENDED:
                result = invocation.answer
            else:
                result = await suspended(call, awaited, self._exchange.deadlines, timeout_s, function_id, deadline)
        else:
            result = await bounded(call, self._exchange.deadlines, timeout_s, function_id, deadline)
        if result_type is Any and type(result) is Json:
            try:
                return _decode_any(result)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:  # 1e999 is JSON, but no float
                raise InvalidResult(f"the answer of `{function_id}` cannot be read: {error}") from error
        if type(result) is result_type and in_place is None and result_type not in _SCALARS:
            return result  # a Struct that needs no copy, or `Json` (`Endpoint`)
        return read_result(result, result_type, function_id)

    async def _act(self, action: Action, invocation: Invocation, timeout_s: float | None) -> Receipt | None:
        check_namespace(invocation.namespace)
        if isinstance(action, Enqueue):
            enqueued = enqueue(self._exchange.router.call, invocation, EnqueueAction.of(action))
            if timeout_s is None:
                return await enqueued
            function_id, deadlines = invocation.function_id, self._exchange.deadlines
            receipt: Receipt = await bounded(enqueued, deadlines, timeout_s, function_id, invocation.deadline)
            return receipt
        # The value is taken now: what the caller does to its object later is not part of the call.
        invocation.payload = payload_json(invocation.payload)
        invocation.deadline, invocation.hops = None, 0
        self._exchange.spawn(self._unattended(invocation), name=f"void {invocation.function_id}")
        return None

    async def _unattended(self, invocation: Invocation) -> None:
        current_invocation.set(None)
        try:
            await self._exchange.router.call(invocation)
        except LinklyError as error:
            if error.error_id is None:
                log.warning("`%s`, called without waiting, failed: %s", invocation.function_id, error)

    def register_function(self, function: Function) -> Registration:  # noqa: D102
        self._begin()
        record = FunctionRecord(
            id=function.id,
            namespace=self.record.home,
            endpoint=function,
            owner=self.record,
            description=function.description or None,
            request_schema=function.request_schema,
            response_schema=function.response_schema,
            metadata=function.metadata,
        )
        tables = self._exchange.tables
        tables.add_function(record)
        self._functions.add(function)
        function.failed = partial(self._exchange.failed, self.record)
        return Registration(function.id, partial(tables.remove_function, record.namespace, record.id, self.record))

    def register_trigger_type(self, trigger_type: TriggerType) -> Registration:  # noqa: D102
        self._begin()
        record = TypeRecord(
            id=trigger_type.id,
            namespace=self.record.home,
            provider=LocalProvider(trigger_type, self.record, self._exchange),
            owner=self.record,
            description=trigger_type.description,
            config_schema=trigger_type.config_schema,
            payload_schema=trigger_type.payload_schema,
        )
        tables = self._exchange.tables
        tables.add_type(record)
        return Registration(record.id, partial(tables.remove_type, record.namespace, record.id, self.record))

    def register_trigger(self, function_id: str, trigger: TriggerDeclaration) -> Registration:  # noqa: D102
        self._begin()
        check_namespace(trigger.namespace)
        check_namespace(trigger.trigger_namespace)
        binding = BindingRecord(
            id=str(uuid.uuid4()),
            trigger_type=trigger.type,
            function_id=function_id,
            owner=self.record,
            config=trigger.config,
            metadata=trigger.metadata,
            namespace=trigger.namespace or self.record.home,
            trigger_namespace=trigger.trigger_namespace,
        )
        tables = self._exchange.tables
        tables.bind(binding)
        undo = partial(tables.unbind, binding.id, self.record)
        return Registration(binding.id, undo, partial(undo, leaving=True))

    @property
    def in_flight(self) -> int:
        """Count the calls that its functions serve."""
        return sum(function.active for function in self._functions)

    async def idle(self) -> None:
        """Wait until its functions serve no call."""
        ended = asyncio.Event()
        for function in self._functions:
            function.idle = ended.set
        while self.in_flight:
            ended.clear()
            await ended.wait()

    def _begin(self) -> None:
        begin, self.before_first_registration = self.before_first_registration, None
        if begin is not None:
            begin()

    async def create_channel(self, buffer_size: int | None = None) -> Channel:  # noqa: D102
        return self._exchange.channels.create(buffer_size, self.record.id)

    async def open_reader(self, reference: ChannelRef) -> ChannelReader:  # noqa: D102
        return LocalReader(self._exchange.channels, reference)

    async def open_writer(self, reference: ChannelRef) -> ChannelWriter:  # noqa: D102
        return LocalWriter(self._exchange.channels, reference)


def read_result(result: Any, result_type: Any, function_id: str) -> Any:
    """Turn what an endpoint answered into what its caller asked for.

    Raises:
        InvalidPayload: The result does not fit `result_type`.
    """
    if result_type is Any:  # and no `Json`
        return _decode_any(encode(result)) if isinstance(result, msgspec.Struct) else result
    if result_type is Json:
        return as_json(result)
    if result_type is InPlace:
        return result
    codec = codec_of(result_type)
    fits = codec.uncopied.get(type(result))
    if fits is not None and fits(result):
        return result
    return codec.read(result, f"the caller of `{function_id}` (its result)")
