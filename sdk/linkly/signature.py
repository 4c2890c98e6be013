"""What a handler takes and returns, read from its type hints: `linkly.function` says which forms there are.

A worker's method is inspected once in a process, however often its worker is made anew: schemas of the shipped workers
cost about 45 ms, which a restart need not pay again.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
import weakref
from collections.abc import Callable
from typing import Any

import msgspec

from linkly.invocation import Json
from linkly.schema import Codec, json_schema
from linkly.uncopied import uncopied

_SCALARS = (str, int, float, bool, bytes)

_of_methods: weakref.WeakKeyDictionary[types.FunctionType, dict[str, Signature]] = weakref.WeakKeyDictionary()


def signature_of(function_id: str, handler: Callable[..., Any]) -> Signature:
    """Return the signature of a handler; a method's is kept as long as its class.

    Raises:
        TypeError: A type hint cannot be resolved.
    """
    method = handler.__func__ if isinstance(handler, types.MethodType) else None
    if not isinstance(method, types.FunctionType):
        return Signature(function_id, handler)
    by_id = _of_methods.setdefault(method, {})
    known = by_id.get(function_id)
    if known is None:
        known = by_id[function_id] = Signature(function_id, handler)
    return known


class Signature:
    """What is known of a handler before it is called.

    Attributes:
        takes_metadata: One parameter is the invocation's metadata.
        takes_payload: There is a parameter beside it.
        spread: Each parameter is one field of the payload object.
        codec: Reads the payload, or its fields.
        uncopied: The types of results that are handed on as they are, each with its check.
        is_coroutine: Otherwise it is called in a thread.
    """

    def __init__(self, function_id: str, handler: Callable[..., Any]) -> None:
        hints = _type_hints(handler)
        parameters = [
            parameter
            for parameter in inspect.signature(handler).parameters.values()
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        ]
        self.takes_metadata = len(parameters) > 1 and any(
            p.name == "metadata" and not _is_scalar(hints.get(p.name)) for p in parameters
        )
        if self.takes_metadata:
            parameters = [p for p in parameters if p.name != "metadata"]
        self.takes_payload = bool(parameters)
        self.spread = len(parameters) > 1 or any(_is_scalar(hints.get(p.name)) for p in parameters)
        self._request_type: Any = Any
        if self.spread:
            self._request_type = _parameters_as_struct(function_id, parameters, hints)
        elif parameters:
            self._request_type = hints.get(parameters[0].name, Any)
        self._response_type: Any = hints.get("return", Any)
        self.uncopied = uncopied(self._response_type)
        self._described_by = handler.__doc__ if self.spread else None
        self._what = f"function `{function_id}`"
        self.codec: Codec[Any] = Codec(self._request_type)
        self.is_coroutine = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
            getattr(handler, "__call__", None)  # noqa: B004 - a callable object with an async __call__
        )

    @functools.cached_property
    def request_schema(self) -> dict[str, Any] | None:
        """JSON Schema of the payload, `None` if the handler takes anything.

        Raises:
            TypeError: Something in it has no JSON form.
        """
        return None if self._request_type is Any else self._schema(self._request_type, self._described_by)

    @functools.cached_property
    def response_schema(self) -> dict[str, Any] | None:
        """JSON Schema of the result, `None` if the handler does not say.

        Raises:
            TypeError: Something in it has no JSON form.
        """
        return None if self._response_type in (Any, Json) else self._schema(self._response_type, None)

    def _schema(self, type_hint: Any, described_by: str | None) -> dict[str, Any]:
        try:
            return json_schema(type_hint, described_by=described_by)
        except TypeError as error:
            raise TypeError(f"{self._what}: {error}") from error


def _type_hints(handler: Callable[..., Any]) -> dict[str, Any]:
    target: Any = handler if inspect.isroutine(handler) else getattr(handler, "__call__", handler)  # noqa: B004
    while isinstance(target, functools.partial):
        target = target.func
    try:
        return typing.get_type_hints(target, include_extras=True)
    except NameError as error:
        name = getattr(target, "__qualname__", repr(target))
        raise TypeError(f"cannot resolve the type hints of {name}: {error}") from error


def _is_scalar(hint: Any) -> bool:
    """Return whether a hint can only be one field of an object, not a whole payload."""
    if typing.get_origin(hint) is typing.Annotated:
        return _is_scalar(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return all(arg is type(None) or _is_scalar(arg) for arg in typing.get_args(hint))
    if typing.get_origin(hint) in (list, set, tuple, typing.Literal):
        return True
    return isinstance(hint, type) and issubclass(hint, (*_SCALARS, list, set, tuple))


def _parameters_as_struct(
    function_id: str, parameters: list[inspect.Parameter], hints: dict[str, Any]
) -> type[msgspec.Struct]:
    fields: list[Any] = []
    for parameter in parameters:
        hint = hints.get(parameter.name, Any)
        if parameter.default is parameter.empty:
            fields.append((parameter.name, hint))
        else:
            fields.append((parameter.name, hint, parameter.default))
    name = "".join(part.capitalize() for part in function_id.replace("::", "_").split("_")) + "Request"
    return msgspec.defstruct(name, fields, kw_only=True, namespace={"__doc__": ""})
