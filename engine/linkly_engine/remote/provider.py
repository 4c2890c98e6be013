"""How a provider on a connection is told about bindings, and refuses them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from linkly.clock import Clock
from linkly.errors import InvalidResult, LinklyError, PayloadTooLarge, TriggerRegistrationFailed
from linkly.invocation import Json
from linkly.outcome import ABSENT, error_body
from linkly.schema import as_json
from linkly.wire.messages import Message, RegisterTrigger, UnregisterTrigger
from linkly_engine.core.records import BindingRecord

log = logging.getLogger("linkly.engine")

DURABLE_ANSWER_S = 10.0
"""How long a remote provider may take to refuse a durable binding (docs/protocol.md 4.5)."""


class RemoteProvider:
    """The trigger types of a remote worker: told by frames, answers by `triggerregistrationresult`.

    Args:
        refuse: Parks a binding that cannot be told, by its id.
    """

    __slots__ = (
        "_answers",
        "_clock",
        "_refuse_binding",
        "_send",
    )

    def __init__(self, send: Callable[[Message], None], refuse: Callable[[str, Json], None], clock: Clock) -> None:
        self._send = send
        self._refuse_binding = refuse
        self._clock = clock
        self._answers: dict[str, asyncio.Future[LinklyError | None]] = {}

    def bind(self, binding: BindingRecord) -> None:  # noqa: D102
        try:
            self._send(
                RegisterTrigger(
                    id=binding.id,
                    trigger_type=binding.trigger_type,
                    function_id=binding.function_id,
                    config=as_json(binding.config),
                    metadata=ABSENT if binding.metadata is None else as_json(binding.metadata),
                    namespace=_unless_default(binding.namespace),
                    trigger_namespace=_unless_default(binding.trigger_namespace),
                )
            )
        except (InvalidResult, PayloadTooLarge) as error:
            # Treated as a refusal by the provider: the message that led to it may be another worker's.
            asyncio.get_running_loop().call_soon(self._refuse, binding, TriggerRegistrationFailed(error.message))

    def _refuse(self, binding: BindingRecord, error: LinklyError) -> None:
        self.answered(binding.id, error)
        self._refuse_binding(binding.id, error_body(error))

    def unbind(self, binding: BindingRecord, *, unregistered: bool) -> None:  # noqa: D102
        message = UnregisterTrigger(
            id=binding.id,
            trigger_type=binding.trigger_type,
            function_id=binding.function_id,
            config=as_json(binding.config),
            metadata=ABSENT if binding.metadata is None else as_json(binding.metadata),
            unregistered=unregistered,
        )
        try:
            self._send(message)
        except PayloadTooLarge:  # the binding was refused for its size, or just fitted: its id is enough
            message.config = message.metadata = ABSENT
            self._send(message)

    def answered(self, binding_id: str, error: LinklyError | None) -> None:
        """The provider's acknowledgement arrived."""
        answer = self._answers.get(binding_id)
        if answer is not None and not answer.done():
            answer.set_result(error)

    async def acknowledged(self, binding_id: str | None = None) -> None:  # noqa: D102
        if binding_id is None:
            return
        answer = self._answers.setdefault(binding_id, asyncio.get_running_loop().create_future())
        timer = self._clock.call_later(DURABLE_ANSWER_S, lambda: self.answered(binding_id, None))
        try:
            error = await asyncio.shield(answer)
        finally:
            timer.cancel()
            self._answers.pop(binding_id, None)
        if error is not None:
            raise TriggerRegistrationFailed(error.message)


def _unless_default(namespace: str | None) -> str | None:
    return None if namespace == "default" else namespace
