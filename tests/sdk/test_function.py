"""`@function`: what a handler may look like, and what its schema says."""

import asyncio
import dataclasses
import inspect
import math
import sys
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from linkly import Invocation, Json, Worker, current, function
from linkly.errors import HandlerFailed, InvalidPayload, InvalidResult, NotFound
from linkly.function import Function
from linkly.testing import running_engine


class Order(msgspec.Struct):
    """An order.

    Attributes:
        item: What is wanted.
        amount: How many of it,
            at least one.
    """

    item: str
    amount: int = 1


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


async def call(handler, payload=None, metadata=None):
    result = await Function("t::f", handler)(Invocation(function_id="t::f", payload=payload, metadata=metadata))
    return msgspec.json.decode(result) if type(result) is Json else result


async def test_a_struct_a_dataclass_and_a_dict_take_the_whole_payload():
    async def with_struct(order: Order):
        return [order.item, order.amount]

    async def with_dataclass(point: Point):
        return [point.x, point.y]

    async def with_dict(payload: dict[str, Any]):
        return payload

    async def untyped(payload):
        return payload

    assert await call(with_struct, {"item": "tea", "unknown": 1}) == ["tea", 1]
    assert await call(with_dataclass, {"x": 1, "y": 2}) == [1, 2]
    assert await call(with_dict, {"a": [1]}) == {"a": [1]}
    assert await call(untyped, "anything") == "anything"


async def test_scalar_parameters_are_fields_of_the_payload():
    async def add(a: int, b: int = 2, *, text: str | None = None):
        return [a, b, text]

    assert await call(add, {"a": 1}) == [1, 2, None]
    assert await call(add, {"text": "x", "b": 5, "a": 1}) == [1, 5, "x"]


async def test_a_handler_without_parameters_ignores_the_payload():
    async def ping():
        return "pong"

    assert await call(ping, {"any": 1}) == "pong"


async def test_metadata_is_handed_over_where_it_is_asked_for():
    async def handler(payload, metadata):
        return [payload, metadata]

    assert await call(handler, 1, {"m": 1}) == [1, {"m": 1}]
    assert await call(handler, 1, Json(b'{"m":2}')) == [1, {"m": 2}]


async def test_a_plain_function_runs_in_a_thread():
    import threading

    def handler(payload):
        return threading.current_thread() is threading.main_thread()

    assert await call(handler) is False


@pytest.mark.skipif(sys.version_info < (3, 12), reason="only an `async def` is a coroutine function")
async def test_a_coroutine_function_may_return_any_awaitable():
    class Answer:
        def __await__(self):
            yield from asyncio.sleep(0).__await__()
            return "made elsewhere"

    def handler(payload):
        return Answer()

    inspect.markcoroutinefunction(handler)
    assert await call(handler) == "made elsewhere"


class Elsewhere:
    """What a function is wrapped in by libraries such as `wrapt`: it looks like the function in all but its calls."""

    def __init__(self, wrapped):
        self._wrapped = wrapped

    @property
    def __class__(self):
        return type(self._wrapped)

    def __getattr__(self, name):
        return getattr(self._wrapped, name)

    def __call__(self, payload):
        return self

    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return "made elsewhere"


async def test_a_wrapped_coroutine_function_may_return_any_awaitable():
    class Plain:
        async def method(self, payload):
            return payload

    async def plain(payload):
        return payload

    assert await call(Elsewhere(plain)) == "made elsewhere"
    assert await call(Elsewhere(Plain().method)) == "made elsewhere"


@pytest.mark.parametrize(
    "payload, field",
    [
        ({"item": 5}, "$.item"),
        ({}, "item"),
        ({"item": "a", "amount": "x"}, "$.amount"),
        ([], "object"),
        (Json(b"{"), ""),
    ],
)
async def test_a_payload_that_does_not_fit_never_reaches_the_handler(payload, field):
    called = []

    async def handler(order: Order):
        called.append(order)

    with pytest.raises(InvalidPayload) as caught:
        await call(handler, payload)
    assert called == []
    assert "t::f" in caught.value.message
    assert field in caught.value.message
    assert caught.value.code == "deserialization_error"


class Weighed(msgspec.Struct):
    kilos: float = 0.0
    exact: list[Decimal] | None = None


@pytest.mark.parametrize("field, value", [("kilos", math.nan), ("kilos", math.inf), ("exact", [-math.inf])])
@pytest.mark.parametrize("wire", [False, True], ids=["in process", "over the wire"])
async def test_a_number_that_json_does_not_have_never_reaches_the_handler(wire, field, value):
    class Scales(Worker):
        name = "scales"

        @function("scales::weigh")
        async def weigh(self, thing: Weighed) -> None:
            raise AssertionError(thing)

    async with running_engine(Scales(), wire=wire) as bus:
        with pytest.raises(InvalidPayload, match=rf"infinite - at `\$\.{field}"):
            await bus.trigger("scales::weigh", {field: value})


async def test_null_is_an_empty_object_where_an_object_is_wanted():
    async def handler(a: int = 1):
        return a

    assert await call(handler, None) == 1
    assert await call(handler, Json(b"null")) == 1


async def test_what_a_handler_raises_is_told_apart():
    async def domain(payload):
        raise NotFound("no such order")

    async def broken(payload):
        raise KeyError("x")

    async def unserializable(payload):
        return object()

    with pytest.raises(NotFound):
        await call(domain)
    with pytest.raises(HandlerFailed, match="x") as caught:
        await call(broken)
    assert "KeyError" in (caught.value.stacktrace or "")
    with pytest.raises(InvalidResult, match="t::f"):
        await call(unserializable)


def test_one_signature_gives_description_schema_and_defaults():
    class Shop(Worker):
        name = "shop"

        @function("shop::order")
        async def order(self, order: Order) -> Point:
            """Take an order.

            Nothing more is said here.
            """
            return Point(1)

        @function("shop::add")
        async def add(self, a: int, b: int = 2) -> int:
            """Add.

            Args:
                a: The first.
                b: The second.
            """
            return a + b

    shop = Shop()
    order = Function("shop::order", shop.order)
    assert order.description == "Take an order."
    assert order.request_schema["properties"]["item"] == {"type": "string", "description": "What is wanted."}
    assert order.request_schema["properties"]["amount"]["description"] == "How many of it, at least one."
    assert order.request_schema["required"] == ["item"]
    assert order.response_schema["properties"]["y"]["default"] == 0
    add = Function("shop::add", shop.add)
    assert add.request_schema["properties"]["b"] == {"type": "integer", "default": 2, "description": "The second."}


@pytest.mark.parametrize("function_id", ["", "  ", " a::b"])
def test_a_blank_id_is_refused(function_id):
    with pytest.raises(ValueError, match="non-empty"):
        function(function_id)


def test_the_decorator_returns_the_handler_unchanged():
    async def handler(payload):
        return payload

    assert function("a::b")(handler) is handler


def test_a_worker_without_a_name_is_refused():
    class Nameless(Worker):
        pass

    with pytest.raises(TypeError, match="name"):
        Nameless()


@pytest.mark.parametrize("wire", [False, True], ids=["in process", "over the wire"])
async def test_values_cross_the_bus_as_copies(wire):
    class Keeper(Worker):
        name = "keeper"
        kept: Any = None

        @function("keeper::keep")
        async def keep(self, payload):
            self.kept = payload
            return payload

    keeper = Keeper()
    async with running_engine(keeper, wire=wire) as bus:
        mine = {"list": [1], "inner": {"a": 1}}
        answer = await bus.trigger("keeper::keep", mine)
        assert answer == mine == keeper.kept
        keeper.kept["list"].append(2)
        answer["inner"]["a"] = 2
        assert mine == {"list": [1], "inner": {"a": 1}}


@pytest.mark.parametrize("wire", [False, True], ids=["in process", "over the wire"])
async def test_the_context_tells_who_calls_and_what_came_along(wire):
    class Curious(Worker):
        name = "curious"

        @function("curious::context")
        async def context(self, payload):
            invocation = current()
            return [invocation.function_id, msgspec.to_builtins(invocation.metadata) and True]

    async with running_engine(Curious(), wire=wire) as bus:
        assert await bus.trigger("curious::context", {}, metadata={"m": 1}) == ["curious::context", True]
    with pytest.raises(LookupError, match="inside a function"):
        current()


def test_a_type_hint_without_a_json_form_names_the_function():
    class Opaque:
        pass

    async def handler(payload: dict) -> Opaque:
        return Opaque()

    with pytest.raises(TypeError, match=r"`a::b`.*Opaque.*Struct"):
        Function("a::b", handler)


async def test_object_means_anything():
    async def handler(payload: dict) -> object:
        return payload["any"]

    assert Function("a::b", handler).response_schema == {}
