"""The trigger types a remote worker provides: bindings come as frames and are answered, one after another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from linkly.errors import LinklyError, TriggerRegistrationFailed, TriggerTypeNotFound
from linkly.outcome import ABSENT, error_body, is_absent
from linkly.schema import decode
from linkly.trigger import Binding, TriggerType
from linkly.wire.messages import Message, RegisterTrigger, TriggerRegistrationResult, UnregisterTrigger


class ProvidedTypes:
    """Trigger types by id; `send` sends an answer to the engine, if there is a connection."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        self._send = send
        self._types: dict[str, TriggerType] = {}
        self._waiting: list[RegisterTrigger | UnregisterTrigger] = []
        self._task: asyncio.Task[None] | None = None

    def __iter__(self) -> Iterator[TriggerType]:
        return iter(list(self._types.values()))

    def add(self, trigger_type: TriggerType) -> None:
        """Provide a type."""
        self._types[trigger_type.id] = trigger_type

    def remove(self, trigger_type: TriggerType) -> bool:
        """Provide it no longer; return whether it was provided."""
        if self._types.get(trigger_type.id) is not trigger_type:
            return False
        del self._types[trigger_type.id]
        return True

    def take(self, message: RegisterTrigger | UnregisterTrigger) -> None:
        """Bind or unbind, after what the engine said before."""
        self._waiting.append(message)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work(), name="linkly bindings")

    def stop(self) -> None:
        """Answer nothing any more."""
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()

    async def _work(self) -> None:
        try:
            while self._waiting:
                message = self._waiting.pop(0)
                if isinstance(message, UnregisterTrigger):
                    for trigger_type in self:
                        if message.trigger_type in (None, trigger_type.id):
                            await trigger_type.unbind(message.id, unregistered=message.unregistered)
                else:
                    self._send(await self._bind(message))
        finally:
            self._task = None

    async def _bind(self, message: RegisterTrigger) -> TriggerRegistrationResult:
        answer = TriggerRegistrationResult(
            id=message.id, trigger_type=message.trigger_type, function_id=message.function_id
        )
        try:
            trigger_type = self._types.get(message.trigger_type)
            if trigger_type is None:
                raise TriggerTypeNotFound(f"this worker does not provide trigger type `{message.trigger_type}`")
            await trigger_type.bind(
                Binding(
                    id=message.id,
                    trigger_type=message.trigger_type,
                    function_id=message.function_id,
                    config=None if is_absent(message.config) else decode(message.config),
                    metadata=None if is_absent(message.metadata) else decode(message.metadata),
                    namespace=message.namespace or "default",
                )
            )
        except TriggerTypeNotFound as error:
            answer.error = error_body(error)
        except LinklyError as error:
            answer.error = error_body(TriggerRegistrationFailed(error.message, details=error.details))
        except Exception as error:
            answer.error = error_body(TriggerRegistrationFailed(str(error) or type(error).__name__))
        else:
            answer.error = ABSENT
        return answer
