"""What crosses the bus as it is, and what does not: payloads that their maker gives away, and their answers."""

import pytest

from linkly import Function, HttpRequest, HttpResponse, Json
from linkly.bus import InPlace
from linkly.testing import running_engine, settle


@pytest.fixture(params=[False, True], ids=["in process", "over the wire"])
def remote(request):
    return request.param


@pytest.fixture
async def bus(remote):
    async with running_engine(wire=remote) as bus:
        yield bus


@pytest.fixture
async def kept(bus):
    """Serve a function that keeps what it gets and what it answers."""
    kept = []

    async def keep(request: HttpRequest) -> HttpResponse:
        answer = HttpResponse(body=request.method)
        kept.extend((request, answer))
        return answer

    bus.register_function(Function("test::keep", keep))
    await settle()
    return kept


async def test_payload_and_answer_are_the_same_objects_in_process_alone(bus, kept, remote):
    request = HttpRequest(method="PUT")
    answer = await bus.trigger("test::keep", InPlace(request, HttpResponse), result_type=InPlace)
    assert kept[0] == request
    assert (kept[0] is request) is not remote
    assert answer == (Json(b'{"body":"PUT"}') if remote else kept[1])
    assert (answer is kept[1]) is not remote


async def test_an_answer_in_place_is_copied_for_who_names_its_type(bus, kept):
    answer = await bus.trigger("test::keep", InPlace(HttpRequest(), HttpResponse), result_type=HttpResponse)
    assert answer == kept[1]
    assert answer is not kept[1]


async def test_a_payload_that_is_not_given_away_is_copied(bus, kept):
    request = HttpRequest(method="PUT")
    answer = await bus.trigger("test::keep", request)
    assert kept[0] is not request
    assert answer == {"body": "PUT"}


async def test_what_a_function_wants_in_another_type_is_copied(bus):
    headers = {"a": "b"}

    async def change(payload: dict) -> dict:
        payload["headers"]["a"] = "changed"
        return payload["headers"]

    bus.register_function(Function("test::change", change))
    await settle()
    answer = await bus.trigger("test::change", InPlace(HttpRequest(headers=headers), HttpResponse), result_type=InPlace)
    assert (headers, answer) == ({"a": "b"}, Json(b'{"a":"changed"}'))


async def test_calls_inside_of_the_function_are_not_in_place(bus):
    inner = []

    async def keep(request: HttpRequest) -> None:
        inner.append(request)

    async def outer(request: HttpRequest) -> bool:
        await bus.trigger("test::keep", request)
        return inner[0] is not request

    bus.register_function(Function("test::keep", keep))
    bus.register_function(Function("test::outer", outer))
    await settle()
    assert await bus.trigger("test::outer", InPlace(HttpRequest(), HttpResponse)) is True
