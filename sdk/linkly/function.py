"""`@function`: a plain async callable becomes something the bus can call.

The decorator checks once and returns the callable unchanged, so that a test calls it like any other. `Function`
is what gets registered: calling it with an `Invocation` is the local path of every call. Inspection happens
here, at registration; per call there is a decode, the handler, an encode, and neither of the two for frozen Structs
that nobody can change (`linkly.uncopied`).

How a handler may look:

* no parameter: called without the payload;
* one parameter whose type is a dataclass, Struct, TypedDict, dict or untyped: gets the whole payload;
* otherwise each parameter is one field of the payload object (`async def add(a: int, b: int = 0)`);
* a parameter called `metadata`, annotated as a dict or untyped: gets the invocation's metadata.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import types
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import anyio.to_thread
import msgspec
from msgspec.structs import asdict

from linkly.context import current_invocation
from linkly.endpoint import start_in_task
from linkly.errors import HandlerFailed, InvalidResult, LinklyError
from linkly.invocation import Done, Invocation, Json
from linkly.schema import Codec, docstring_summary, encode
from linkly.signature import signature_of
from linkly.trigger import TriggerDeclaration
from linkly.uncopied import Check

F = TypeVar("F", bound=Callable[..., Any])

ENDED = object()
"""What `next(call, ENDED)` answers when the call has ended in its first step (`Function.__call__`)."""

# Here and in `__call__` what is called per call has a name of its own: a method looked up on an imported name, or a
# callable kept in an attribute, is not specialized by CPython 3.11 (0.04 us each).
_enter, _leave = current_invocation.set, current_invocation.reset


def _anything(value: object) -> bool:
    return True


_PLAIN_RESULTS: dict[type, Check] = dict.fromkeys((str, int, bool, type(None), Json), _anything)


class FunctionDeclaration(msgspec.Struct, kw_only=True):
    """What `@function` was told."""

    id: str
    description: str | None = None
    metadata: dict[str, Any] | None = None
    triggers: tuple[TriggerDeclaration, ...] = ()
    aliases: tuple[str, ...] = ()


def function(
    function_id: str,
    *,
    triggers: Sequence[TriggerDeclaration] = (),
    description: str | None = None,
    metadata: dict[str, Any] | None = None,
    aliases: Sequence[str] = (),
) -> Callable[[F], F]:
    """Declare a handler as the function `function_id`.

    Args:
        function_id: `service::name`.
        triggers: What makes it run besides a call: `http("GET", "/s/:code")`, `trigger("cron", {...})`.
        description: Default: the first paragraph of the docstring.
        metadata: Free for tools; `{"internal": True}` hides the function from listings.
        aliases: Further ids, served by the same handler and hidden from listings.

    Raises:
        ValueError: The id is blank or has white space around it.
    """
    if not function_id or function_id != function_id.strip():
        raise ValueError(f"function id {function_id!r}: must be a non-empty name such as 'service::name'")
    declaration = FunctionDeclaration(
        id=function_id,
        description=description,
        metadata=metadata,
        triggers=tuple(triggers),
        aliases=tuple(aliases),
    )

    def mark(handler: F) -> F:
        handler.__linkly_function__ = declaration  # type: ignore[attr-defined]
        return handler

    return mark


def declaration_of(handler: object) -> FunctionDeclaration | None:
    """Return what `@function` was told about `handler`, `None` if it was not decorated."""
    found = getattr(handler, "__linkly_function__", None)
    return found if isinstance(found, FunctionDeclaration) else None


class Function:
    """One function as the bus sees it: id, description, schemas, and an `Endpoint`.

    Attributes:
        id: `service::name`.
        description: One line for people.
        request_schema: JSON Schema of the payload, `None` if the handler takes anything.
        response_schema: JSON Schema of the result, `None` if the handler does not say.
        metadata: Free for tools.
        triggers: Declared triggers, bound when the function is registered by its worker.
        active: How many calls are being served.
        idle: Told whenever the last of them has ended.
        failed: Told of each call that failed by a fault of the handler; what its caller gets is raised afterwards.
    """

    def __init__(
        self,
        function_id: str,
        handler: Callable[..., Any],
        *,
        description: str | None = None,
        metadata: dict[str, Any] | None = None,
        triggers: Sequence[TriggerDeclaration] = (),
        request_schema: dict[str, Any] | None = None,
        response_schema: dict[str, Any] | None = None,
    ) -> None:
        self.id = function_id
        self.handler = handler
        self.description = description or docstring_summary(handler.__doc__)
        self.metadata = metadata
        self.triggers = tuple(triggers)
        self.active = 0
        self.idle: Callable[[], None] | None = None
        self.failed: Callable[[Invocation, LinklyError], None] | None = None
        self._what = f"function `{function_id}`"
        signature = signature_of(function_id, handler)
        self._takes_metadata = signature.takes_metadata
        self._spread = signature.spread
        self._takes_payload = signature.takes_payload
        self._takes_whole_payload = signature.takes_payload and not signature.spread and not signature.takes_metadata
        self._takes_nothing = not (signature.takes_payload or signature.takes_metadata)
        self.codec: Codec[Any] = signature.codec
        self._payload_type = signature.codec.type
        self._uncopied = dict(signature.codec.uncopied)
        self._as_they_are = _PLAIN_RESULTS | dict(signature.uncopied)
        self._call = handler if _gives_coroutines(handler) else _awaiting(handler, in_thread=not signature.is_coroutine)
        self.request_schema = signature.request_schema if request_schema is None else request_schema
        self.response_schema = signature.response_schema if response_schema is None else response_schema

    @types.coroutine
    def __call__(self, invocation: Invocation) -> Generator[Any, Any, Any]:
        """Serve one call: the `Endpoint`.

        It is awaited, or run with `asyncio.gather`: from Python 3.12 on `create_task` takes no generator.
        The result is kept in `invocation.answer` as well: who takes the first step by `next(call, ENDED)` needs no
        `StopIteration` to learn it, which is 0.15 us.

        Raises:
            InvalidPayload: The payload does not fit; the handler was not called.
            HandlerFailed: The handler raised something that is not a `LinklyError`, or `CancelledError` although nobody
                cancelled it, or `GeneratorExit`.
            LinklyError: The handler raised this.
        """
        call = self._call
        token = _enter(invocation)
        self.active += 1
        try:
            if invocation.metadata is not None and type(invocation.metadata) is Json:
                invocation.metadata = msgspec.json.decode(invocation.metadata)
            payload = invocation.payload
            if self._takes_whole_payload:
                kind = type(payload)
                if invocation.in_place is None or kind is not self._payload_type:
                    fits = self._uncopied.get(kind)
                    if fits is None or not fits(payload):
                        payload = self.codec.copy(payload, self._what)
                result = yield from call(payload)
            elif self._takes_nothing:
                result = yield from call()
            elif self._spread or not self._takes_payload:
                result = yield from call(**self._arguments(invocation))
            else:
                fields = self.codec.read(payload, self._what)
                result = yield from call(fields, metadata=invocation.metadata)
        except LinklyError:
            raise
        except Exception as error:
            raise self._telling(invocation, HandlerFailed.wrap(error)) from error
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            # Passed on, it would cancel what nobody wants to cancel: a worker's loop, the task that has to answer.
            failure = HandlerFailed(
                f"the handler of {self._what} raised CancelledError although nobody cancelled the call",
                stacktrace=HandlerFailed.wrap(error).stacktrace,
            )
            raise self._telling(invocation, failure) from error
        except GeneratorExit as error:
            # One that begins in this frame is that of `close()`: nobody runs this call any more. What is awaited here
            # is closed before, and its own ends there (PEP 342): one that comes from further in the handler has raised.
            if error.__traceback__ is None or error.__traceback__.tb_next is None:
                raise
            raise self._telling(invocation, HandlerFailed.wrap(error)) from error
        finally:
            self.active -= 1
            _leave(token)
            if not self.active and self.idle is not None:
                self.idle()
        kind = type(result)
        fits = self._as_they_are.get(kind)
        if fits is not _anything and (fits is None or not fits(result)) and kind is not invocation.in_place:
            result = self._encoded(result, invocation)
        invocation.answer = result
        return result

    def _encoded(self, result: object, invocation: Invocation) -> Json:
        try:
            return Json(encode(result))
        except InvalidResult as error:
            unusable = InvalidResult(f"the result of {self._what}: {error.message}")
            raise self._telling(invocation, unusable) from error

    def start(self, invocation: Invocation, done: Done) -> Callable[[], object]:
        """Serve one call in a task of its own (`Endpoint.start`)."""
        return start_in_task(self, invocation, done)

    def _telling(self, invocation: Invocation, failure: LinklyError) -> LinklyError:
        if self.failed is not None:
            self.failed(invocation, failure)
        return failure

    def _arguments(self, invocation: Invocation) -> dict[str, Any]:
        arguments = asdict(self.codec.read(invocation.payload, self._what)) if self._spread else {}
        if self._takes_metadata:
            arguments["metadata"] = invocation.metadata
        return arguments

    def __repr__(self) -> str:
        return f"Function({self.id!r})"


def _is_cancelled() -> bool:
    # Not in the frame that raises: a cancelled task keeps that frame, and the frame would keep the task.
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def functions_of(*owners: object) -> list[Function]:
    """Return the functions of workers, of their parts and of modules: what `@function` decorates, in the given order.

    Args:
        owners: An object gives its methods, bound to it; a module its functions. Both in order of definition.
    """
    found: list[Function] = []
    for owner, name, declaration in _declarations(owners):
        handler = getattr(owner, name)
        found.append(
            Function(
                declaration.id,
                handler,
                description=declaration.description,
                metadata=declaration.metadata,
                triggers=declaration.triggers,
            )
        )
        hidden = {**(declaration.metadata or {}), "internal": True, "alias_of": declaration.id}
        for alias in declaration.aliases:
            found.append(Function(alias, handler, description=declaration.description, metadata=hidden))
    return found


def function_ids_of(*owners: object) -> list[str]:
    """Return the ids of what `functions_of` finds; reads no signature."""
    return [function_id for _, _, each in _declarations(owners) for function_id in (each.id, *each.aliases)]


def _declarations(owners: Iterable[object]) -> Iterator[tuple[object, str, FunctionDeclaration]]:
    for owner in owners:
        members: dict[str, Any] = {}
        if inspect.ismodule(owner):
            members.update(vars(owner))
        else:
            for cls in reversed(type(owner).__mro__):
                members.update(vars(cls))
        for name, member in members.items():
            declaration = declaration_of(member)
            if declaration is not None:
                yield owner, name, declaration


def _gives_coroutines(handler: Callable[..., Any]) -> bool:
    """Return whether a handler is an `async def` of Python itself.

    One of Cython is a coroutine function as well, and so is a proxy of one that answers what it likes (`wrapt`); its
    class and code are those of what it wraps.
    """
    called: Any = handler
    if type(called) is types.MethodType:
        called = called.__func__
    return type(called) is types.FunctionType and bool(called.__code__.co_flags & inspect.CO_COROUTINE)


def _awaiting(handler: Callable[..., Any], *, in_thread: bool) -> Callable[..., Any]:
    @functools.wraps(handler)
    async def call(*args: Any, **kwargs: Any) -> Any:
        if not in_thread:
            return await handler(*args, **kwargs)
        result = await anyio.to_thread.run_sync(functools.partial(handler, *args, **kwargs), abandon_on_cancel=True)
        # A lambda or a partial around a coroutine function looks synchronous until it is called.
        return await result if inspect.isawaitable(result) else result

    return call
