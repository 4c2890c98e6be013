"""Triggers: "run this function when that happens", from both sides.

A worker *declares* triggers on its functions (`http("GET", "/s/:code")`). A *provider* registers a
`TriggerType` and is told of every `Binding` to it; when the thing happens it fires the binding: `fire`.

The engine never fires and never evaluates a condition for a provider's type (protocol.md 4.3); both live here,
so that all providers mean the same by them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from linkly.errors import TriggerRegistrationFailed
from linkly.http import documentation
from linkly.invocation import DEFAULT_TIMEOUT_S
from linkly.schema import json_schema

if TYPE_CHECKING:
    from linkly.bus import Bus


class TriggerDeclaration(msgspec.Struct, kw_only=True):
    """A trigger as its worker declares it.

    Attributes:
        type: Id of the trigger type.
        config: What the provider wants to know, a plain JSON value.
        metadata: Handed to the function with every firing.
        namespace: Where the *target function* is looked up when fired; `None`: `default`.
        trigger_namespace: Where the *type* is looked up; `None`: the worker's own namespace, then `default`.
    """

    type: str
    config: Any = None
    metadata: dict[str, Any] | None = None
    namespace: str | None = None
    trigger_namespace: str | None = None


def trigger(
    trigger_type: str, config: dict[str, Any] | None = None, *, metadata: dict[str, Any] | None = None
) -> TriggerDeclaration:
    """Declare a trigger of any type."""
    return TriggerDeclaration(type=trigger_type, config=config or {}, metadata=metadata)


def http(
    method: str,
    path: str,
    *,
    condition: str | None = None,
    middleware: tuple[str, ...] = (),
    metadata: dict[str, Any] | None = None,
    summary: str | None = None,
    body: Any = None,
    query: Any = None,
    answers: dict[int, Any] | None = None,
    stream: bool = False,
) -> TriggerDeclaration:
    """Run the function for an HTTP request.

    `summary`, `body`, `query` and `answers` appear in the gateway's `/openapi.json` and change nothing else: the
    function gets an `HttpRequest`, and checks what it needs.

    Args:
        method: `GET`, `POST`, ...
        path: Pattern; `:name` matches one segment.
        condition: Function id; answers literal `false` -> the request is refused with 422.
        middleware: Function ids that run before the function, in this order.
        metadata: Handed to the function with every request.
        summary: One line for people; default: the function's description.
        body: Type of the JSON body.
        query: A Struct whose fields are the query parameters.
        answers: Status -> type of the JSON body, `None` for no body, `Media("image/png")` for another one, or a
            tuple of these.
        stream: The function reads the raw body (`request.request_body`) or streams the response
            (`linkly.http.StreamedResponse`). Without it there are no channels to pay for; a body that is not JSON
            comes through `request_body` all the same.

    Raises:
        TypeError: A type cannot be documented (`linkly.http.documentation`).
    """
    config: dict[str, Any] = {"api_path": path, "http_method": method, "stream": stream}
    if condition is not None:
        config["condition_function_id"] = condition
    if middleware:
        config["middleware_function_ids"] = list(middleware)
    told = documentation(summary=summary, body=body, query=query, answers=answers)
    if told:
        config["openapi"] = told
    return TriggerDeclaration(type="http", config=config, metadata=metadata)


def state(
    scope: str | None = None,
    key: str | None = None,
    *,
    condition: str | None = None,
    metadata: dict[str, Any] | None = None,
) -> TriggerDeclaration:
    """Run the function after a write to the state worker; `None` means any."""
    given = {"scope": scope, "key": key, "condition_function_id": condition}
    config = {name: value for name, value in given.items() if value is not None}
    return TriggerDeclaration(type="state", config=config, metadata=metadata)


class WorkerGone(msgspec.Struct, kw_only=True):
    """What `worker_gone` hands to its function.

    Attributes:
        worker_id: Who is gone.
        announced: Whether it ever named itself. Who did not only came to call, as `linkly trigger` does, and goes as
            soon as it is answered. An id that nobody has had lately counts as one that had named itself.
    """

    worker_id: str
    announced: bool = True


def worker_gone(worker_id: str, *, metadata: dict[str, Any] | None = None) -> TriggerDeclaration:
    """Run the function when a worker's connection ends, or its life in the engine's process; at once if it is gone.

    Whoever keeps something for a caller registers this *before* it answers: a caller that ends in between is gone
    then, and told of. Over a lost connection of one's own nothing is missed either, because the next one registers it
    again.

    Args:
        worker_id: As `linkly.current().caller.worker_id` says.
        metadata: Handed to the function.
    """
    return TriggerDeclaration(type="engine::worker-gone", config={"worker_id": worker_id}, metadata=metadata)


class Readiness(msgspec.Struct, kw_only=True):
    """What a function answers that is asked whether its worker can serve.

    Attributes:
        ready: Whether it can.
        reasons: Why not, for people; they are shown to whoever may ask.
    """

    ready: bool
    reasons: list[str] = []


def readiness() -> TriggerDeclaration:
    """Run the function when the gateway is asked whether the project is ready (`/readyz`); it answers `Readiness`."""
    return TriggerDeclaration(type="http::readiness", config={})


class Binding(msgspec.Struct, kw_only=True):
    """One trigger tied to one function, as its provider sees it.

    Attributes:
        id: Chosen by whoever registered the trigger; the same id again replaces the binding.
        trigger_type: Id of the type.
        function_id: What to call.
        config: Of the type's `config_type`, or plain data if it has none.
        metadata: Goes along with every firing.
        namespace: Where `function_id` is looked up.
        owner: Worker id of the registrant, `""` for a durable trigger.
    """

    id: str
    trigger_type: str
    function_id: str
    config: Any = None
    metadata: Any = None
    namespace: str = "default"
    owner: str = ""


class TriggerType:
    """A kind of trigger and who provides it.

    Args:
        type_id: Its id.
        description: One line for people.
        bind: Called with each `Binding`; raises to refuse it (the registrant is told). A binding whose id is
            already bound replaces the earlier one.
        unbind: Called when a binding goes away.
        config_type: Type of `Binding.config`; a config that does not fit is refused before `bind`.
        payload_type: Type of what a firing hands to the function, for its schema.
    """

    def __init__(
        self,
        type_id: str,
        description: str,
        *,
        bind: Callable[[Binding], Awaitable[None]],
        unbind: Callable[[Binding], Awaitable[None]],
        config_type: Any = None,
        payload_type: Any = None,
    ) -> None:
        self.id = type_id
        self.description = description
        self._bind = bind
        self._unbind = unbind
        self._config_type = config_type
        self.config_schema = json_schema(config_type) if config_type is not None else None
        self.payload_schema = json_schema(payload_type) if payload_type is not None else None
        self._bound: dict[str, Binding] = {}

    async def bind(self, binding: Binding) -> None:
        """Check a binding's config and hand it to the provider.

        Raises:
            TriggerRegistrationFailed: The config does not fit, or the provider's own refusal.
        """
        if self._config_type is not None:
            try:
                config = msgspec.convert(binding.config if binding.config is not None else {}, self._config_type)
            except msgspec.ValidationError as error:
                raise TriggerRegistrationFailed(
                    f"Failed to parse trigger config of `{self.id}` for function `{binding.function_id}`: {error}"
                ) from error
            binding = msgspec.structs.replace(binding, config=config)
        await self._bind(binding)
        self._bound[binding.id] = binding

    async def unbind(self, binding_id: str) -> None:
        """Take a binding back; an unknown id is a no-op."""
        binding = self._bound.pop(binding_id, None)
        if binding is not None:
            await self._unbind(binding)


async def condition_met(
    bus: Bus,
    condition_function_id: str | None,
    payload: object,
    namespace: str,
    *,
    timeout_s: float | None = DEFAULT_TIMEOUT_S,
) -> bool:
    """Evaluate a binding's condition: only a literal `false` blocks.

    Args:
        bus: Where to call it.
        condition_function_id: `None`: no condition, met.
        payload: Exactly what the function would get.
        namespace: The target's namespace.
        timeout_s: How long it may take.

    Raises:
        CallTimeout: It took longer.
        LinklyError: The condition failed; the function must not run.
    """
    if condition_function_id is None:
        return True
    answer = await bus.trigger(condition_function_id, payload, namespace=namespace, timeout_s=timeout_s)
    return answer is not False


async def fire(
    bus: Bus,
    binding: Binding,
    payload: object,
    *,
    result_type: Any = Any,
    timeout_s: float | None = DEFAULT_TIMEOUT_S,
) -> Any:
    """Call a binding's function with `payload` and the binding's metadata, and return its answer."""
    return await bus.trigger(
        binding.function_id,
        payload,
        namespace=binding.namespace,
        metadata=binding.metadata,
        result_type=result_type,
        timeout_s=timeout_s,
    )
