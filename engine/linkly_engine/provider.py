"""How the engine tells a provider about bindings: an object beside it, or frames to a remote worker."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

from linkly.bus import Json
from linkly.connection import as_json
from linkly.errors import LinklyError, PayloadTooLarge, TriggerRegistrationFailed
from linkly.schema import decode
from linkly.session import error_body
from linkly.trigger import Binding, TriggerType
from linkly.wire import ABSENT, RegisterTrigger, UnregisterTrigger
from linkly_engine.core.triggers import BindingRecord
from linkly_engine.core.workers import WorkerRecord

if TYPE_CHECKING:
    from linkly_engine.engine import Engine
    from linkly_engine.peer import Peer

log = logging.getLogger("linkly.engine")

WORK_S = 0.001
"""So long a provider in this process deals with bindings in one turn of the loop."""

DURABLE_ANSWER_S = 10.0
"""How long a remote provider may take to refuse a durable binding (protocol.md 4.5)."""


class Provider(Protocol):
    """Told of every change, in order; refusals come back through `Engine.refused`."""

    def bind(self, binding: BindingRecord) -> None:
        """There is a binding, new or replaced."""
        ...

    def unbind(self, binding: BindingRecord) -> None:
        """A binding is gone."""
        ...

    async def settled(self, binding_id: str | None = None) -> None:
        """Wait until what was said so far has been dealt with.

        Raises:
            TriggerRegistrationFailed: `binding_id` was given and refused.
        """
        ...


class LocalProvider:
    """A trigger type in this process: told one thing after another, by one task that lives while there is work."""

    def __init__(self, engine: Engine, trigger_type: TriggerType, owner: WorkerRecord) -> None:
        self._engine = engine
        self._type = trigger_type
        self._owner = owner
        self._waiting: deque[tuple[bool, BindingRecord]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._refusals: dict[str, LinklyError] = {}

    def bind(self, binding: BindingRecord) -> None:  # noqa: D102
        self._refusals.pop(binding.id, None)
        self._enqueue(True, binding)

    def unbind(self, binding: BindingRecord) -> None:  # noqa: D102
        self._enqueue(False, binding)

    async def settled(self, binding_id: str | None = None) -> None:  # noqa: D102
        while self._task is not None:
            await asyncio.wait([self._task])
        refusal = self._refusals.pop(binding_id, None) if binding_id is not None else None
        if refusal is not None:
            raise TriggerRegistrationFailed(refusal.message)

    def _enqueue(self, bound: bool, binding: BindingRecord) -> None:
        self._waiting.append((bound, binding))
        if self._task is None:
            self._task = self._engine.spawn(self._work(), name=f"bindings of {self._type.id}")

    async def _work(self) -> None:
        until = perf_counter() + WORK_S
        try:
            while self._waiting:
                if perf_counter() > until:
                    await asyncio.sleep(0)  # a provider that never waits would keep the loop until all is bound
                    until = perf_counter() + WORK_S
                bound, binding = self._waiting.popleft()
                try:
                    if bound:
                        await self._type.bind(as_binding(binding))
                    else:
                        await self._type.unbind(binding.id)
                except LinklyError as error:
                    self._refuse(binding, error)
                except Exception as error:
                    log.exception("provider of trigger type `%s` failed", self._type.id)
                    self._refuse(binding, TriggerRegistrationFailed(str(error) or type(error).__name__))
        finally:
            self._task = None

    def _refuse(self, binding: BindingRecord, error: LinklyError) -> None:
        self._refusals[binding.id] = error
        body = TriggerRegistrationFailed(error.message, details=error.details)
        self._engine.refused(binding.id, self._owner, error_body(body))


class RemoteProvider:
    """A trigger type of a remote worker: told by frames, answers by `triggerregistrationresult`."""

    def __init__(self, engine: Engine, peer: Peer) -> None:
        self._engine = engine
        self._peer = peer
        self._answers: dict[str, asyncio.Future[LinklyError | None]] = {}

    def bind(self, binding: BindingRecord) -> None:  # noqa: D102
        message = RegisterTrigger(
            id=binding.id,
            trigger_type=binding.trigger_type,
            function_id=binding.function_id,
            config=as_json(binding.config),
            metadata=ABSENT if binding.metadata is None else as_json(binding.metadata),
            namespace=_unless_default(binding.namespace),
            trigger_namespace=_unless_default(binding.trigger_namespace),
        )
        try:
            self._peer.connection.send(message)
        except PayloadTooLarge as error:
            # As if the provider had refused it: a frame of somebody else may have set this off, who cannot help it.
            asyncio.get_running_loop().call_soon(self._refuse, binding, TriggerRegistrationFailed(error.message))

    def _refuse(self, binding: BindingRecord, error: LinklyError) -> None:
        self.answered(binding.id, error)
        self._engine.refused(binding.id, self._peer.record, error_body(error))

    def unbind(self, binding: BindingRecord) -> None:  # noqa: D102
        message = UnregisterTrigger(
            id=binding.id,
            trigger_type=binding.trigger_type,
            function_id=binding.function_id,
            config=as_json(binding.config),
            metadata=ABSENT if binding.metadata is None else as_json(binding.metadata),
        )
        try:
            self._peer.connection.send(message)
        except PayloadTooLarge:  # it was about to be refused for that, or just fitted: the id says enough
            message.config = message.metadata = ABSENT
            self._peer.connection.send(message)

    def answered(self, binding_id: str, error: LinklyError | None) -> None:
        """The provider's acknowledgement arrived."""
        answer = self._answers.get(binding_id)
        if answer is not None and not answer.done():
            answer.set_result(error)

    async def settled(self, binding_id: str | None = None) -> None:  # noqa: D102
        if binding_id is None:
            return
        answer = self._answers.setdefault(binding_id, asyncio.get_running_loop().create_future())
        timer = self._engine.clock.call_later(DURABLE_ANSWER_S, lambda: self.answered(binding_id, None))
        try:
            error = await asyncio.shield(answer)
        finally:
            timer.cancel()
            self._answers.pop(binding_id, None)
        if error is not None:
            raise TriggerRegistrationFailed(error.message)


def as_binding(record: BindingRecord) -> Binding:
    """Return a binding as its in-process provider sees it: plain values, nothing shared."""
    return Binding(
        id=record.id,
        trigger_type=record.trigger_type,
        function_id=record.function_id,
        config=plain(record.config),
        metadata=plain(record.metadata),
        namespace=record.namespace,
        owner=record.owner.id if record.owner is not None else "",
    )


def plain(value: object) -> object:
    """Return a bus value as plain data of one's own."""
    data = value if type(value) is Json else as_json(value)
    return decode(data) if bytes(memoryview(data)[:1]) else None


def _unless_default(namespace: str | None) -> str | None:
    return None if namespace == "default" else namespace
