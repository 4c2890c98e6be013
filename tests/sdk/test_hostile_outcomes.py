"""Whatever a function answers or raises, its call ends, with an error that is linkly's."""

import asyncio
import datetime

import pytest

from linkly import LinklyError, Worker, function
from linkly.endpoint import AsyncEndpoint
from linkly.errors import HandlerFailed, InvalidResult, NotFound
from linkly.invocation import Invocation
from linkly.outcome import read_error
from linkly.testing import running_engine

WAIT_S = 30
NOT_UTF8 = b"caf\xe9".decode("utf-8", "surrogateescape")


class Nowhere(datetime.tzinfo):
    """A time zone that does not know its offset."""

    def utcoffset(self, when):
        raise LookupError("nowhere")


class Mute(Exception):
    """An error that cannot say what it is."""

    def __str__(self):
        raise LookupError("no words")


class Hostile(Worker):
    name = "hostile"

    @function("hostile::name")
    async def fails_with_a_name(self) -> None:
        raise FileNotFoundError(NOT_UTF8)

    @function("hostile::own")
    async def fails_with_an_error_of_its_own(self) -> None:
        raise NotFound(NOT_UTF8, details={"file": NOT_UTF8}, stacktrace=NOT_UTF8)

    @function("hostile::mute")
    async def fails_without_a_word(self) -> None:
        raise Mute

    @function("hostile::answer")
    async def answers(self) -> datetime.datetime:
        return datetime.datetime(2026, 1, 1, tzinfo=Nowhere())


@pytest.fixture(params=["in process", "native wire", "json wire"])
async def bus(request):
    async with running_engine(
        Hostile(), wire=request.param != "in process", native=request.param != "json wire"
    ) as reached:
        yield reached


@pytest.mark.parametrize(
    "name, error, told",
    [
        ("name", HandlerFailed, r"caf(\\udce9|\udce9)"),
        ("own", NotFound, r"caf(\\udce9|\udce9)"),
        ("mute", HandlerFailed, "Mute"),
        ("answer", InvalidResult, "nowhere"),
    ],
)
async def test_a_call_ends_whatever_its_function_answers_or_raises(bus, name, error, told):
    with pytest.raises(LinklyError, match=told) as caught:
        async with asyncio.timeout(WAIT_S):
            await bus.trigger(f"hostile::{name}")
    assert type(caught.value) is error


async def test_a_started_endpoint_whose_answer_has_no_json_form_is_done():
    async def answer(invocation):
        return datetime.datetime(2026, 1, 1, tzinfo=Nowhere())

    outcome = asyncio.get_running_loop().create_future()
    AsyncEndpoint(answer).start(Invocation(function_id="f"), lambda _, error: outcome.set_result(error))
    async with asyncio.timeout(WAIT_S):
        assert "nowhere" in read_error(await outcome).message
