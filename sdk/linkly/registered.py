"""What a client has registered: sent when there is a connection, and again over every new one."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial

from linkly.announce import function_message, type_message
from linkly.bus import Registration
from linkly.function import Function
from linkly.outcome import ABSENT
from linkly.provided import ProvidedTypes
from linkly.schema import as_json
from linkly.trigger import TriggerDeclaration, TriggerType
from linkly.wire.messages import Message, RegisterTrigger, UnregisterFunction, UnregisterTrigger, UnregisterTriggerType


class Registered:
    """The registrations of one client; `send` sends a message if there is a connection.

    Attributes:
        functions: By id.
        types: The trigger types that it provides.
    """

    def __init__(self, send: Callable[[Message], None]) -> None:
        self.functions: dict[str, Function] = {}
        self.types = ProvidedTypes(send)
        self._triggers: dict[str, RegisterTrigger] = {}
        self._send = send

    def messages(self) -> list[Message]:
        """Return what a new connection sends: types, functions, then triggers."""
        return [
            *(type_message(kind) for kind in self.types),
            *(function_message(function) for function in self.functions.values()),
            *self._triggers.values(),
        ]

    def add_function(self, function: Function) -> Registration:
        """Serve a function."""
        self.functions[function.id] = function
        self._send(function_message(function))
        return Registration(function.id, partial(self._remove_function, function))

    def add_type(self, trigger_type: TriggerType) -> Registration:
        """Provide a trigger type."""
        self.types.add(trigger_type)
        self._send(type_message(trigger_type))
        return Registration(trigger_type.id, partial(self._remove_type, trigger_type))

    def add_trigger(self, function_id: str, trigger: TriggerDeclaration, namespace: str | None) -> Registration:
        """Bind a trigger to a function that is looked up in `namespace`."""
        message = RegisterTrigger(
            id=str(uuid.uuid4()),
            trigger_type=trigger.type,
            function_id=function_id,
            config=as_json(trigger.config),
            metadata=ABSENT if trigger.metadata is None else as_json(trigger.metadata),
            namespace=namespace,
            trigger_namespace=trigger.trigger_namespace,
        )
        self._triggers[message.id] = message
        self._send(message)
        return Registration(
            message.id, partial(self._remove_trigger, message), partial(self._remove_trigger, message, leaving=True)
        )

    def _remove_function(self, function: Function) -> None:
        if self.functions.get(function.id) is function:
            del self.functions[function.id]
            self._send(UnregisterFunction(id=function.id))

    def _remove_type(self, trigger_type: TriggerType) -> None:
        if self.types.remove(trigger_type):
            self._send(UnregisterTriggerType(id=trigger_type.id))

    def _remove_trigger(self, message: RegisterTrigger, *, leaving: bool = False) -> None:
        if self._triggers.pop(message.id, None) is not None:
            self._send(UnregisterTrigger(id=message.id, trigger_type=message.trigger_type, leaving=leaving))
