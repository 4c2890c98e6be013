"""Finds the endpoint of a call.

Every call costs one dictionary look-up; the rest of the module is for the calls that go wrong.
"""

from __future__ import annotations

from typing import Any

from linkly.bus import DEFAULT_NAMESPACE, HOP_LIMIT, Invocation
from linkly.errors import FunctionNotFound, InvalidNamespace, TooManyHops
from linkly_engine.core.records import FunctionRecord
from linkly_engine.core.registry import Registry


class Router:
    """Resolves function ids for callers."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def resolve(self, namespace: str | None, function_id: str) -> FunctionRecord:
        """Return who serves a function.

        Args:
            namespace: `None` means `default`; there is no search.
            function_id: What is called.

        Raises:
            InvalidNamespace: The namespace is blank.
            FunctionNotFound: Nobody serves it there; the message names namespaces that have it, or near ids.
        """
        record = self._registry.find(namespace or DEFAULT_NAMESPACE, function_id)
        if record is not None and namespace != "":
            return record
        check_namespace(namespace)
        raise self.not_found(namespace or DEFAULT_NAMESPACE, function_id)

    async def call(self, invocation: Invocation) -> Any:
        """Resolve and call, without a time-out of its own.

        Raises:
            LinklyError: As `resolve`, or what the call ended with.
        """
        return await self.resolve(invocation.namespace, invocation.function_id).endpoint(invocation)

    def not_found(self, namespace: str, function_id: str) -> FunctionNotFound:
        """Make the error for a function nobody serves."""
        text = f"function `{function_id}` is not registered in namespace `{namespace}`"
        elsewhere = self._registry.namespaces_with(function_id)
        nearest = [] if elsewhere else self._registry.nearest(function_id)
        if elsewhere:
            text += "; it is registered in: " + ", ".join(f"`{name}`" for name in elsewhere)
        elif nearest:
            text += "; did you mean " + " or ".join(f"`{known}`" for known in nearest) + "?"
        else:
            text += "; is the worker that serves it connected?"
        return FunctionNotFound(text, details={"namespaces": elsewhere, "nearest": nearest})


def too_many_hops(function_id: str) -> TooManyHops:
    """Make the error for a call that is nested too deeply."""
    return TooManyHops(
        f"`{function_id}` was not called: this call is nested in more than {HOP_LIMIT} others. Do functions call one "
        "another in a circle? Work that goes on without its caller is called with the action Void or Enqueue"
    )


def check_namespace(namespace: str | None) -> None:
    """Refuse a blank namespace.

    Raises:
        InvalidNamespace: It is empty or white space.
    """
    if namespace is not None and not namespace.strip():
        raise InvalidNamespace(f"namespace {namespace!r} is blank; leave it out for `{DEFAULT_NAMESPACE}`")
