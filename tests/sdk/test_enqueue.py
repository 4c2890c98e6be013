"""A call that goes through a queue: what whoever serves `engine::queue::enqueue` gets, and what the caller is told."""

import asyncio
from datetime import datetime, timedelta, timezone

import pytest

from linkly import Enqueue, Worker, current, function
from linkly.errors import CallTimeout, EnqueueFailed, InvalidPayload, LinklyError, Overloaded
from linkly.testing import ManualClock, running_engine, settle


class Queues(Worker):
    """Takes what is enqueued, and answers what a test wants."""

    name = "queues"

    def __init__(self):
        super().__init__()
        self.taken = []
        self.answer = None

    @function("engine::queue::enqueue")
    async def enqueue(self, data: dict) -> dict | None:
        """Take a job."""
        self.taken.append(data)
        if isinstance(self.answer, LinklyError):
            raise self.answer
        return self.answer

    @function("queues::relay")
    async def relay(self, delay_ms: int) -> dict:
        """Enqueue from inside a handler."""
        return await self.bus.trigger("t::later", current().payload, action=Enqueue("mails", delay_ms=delay_ms))


@pytest.fixture
def queues():
    return Queues()


@pytest.fixture(params=["in process", "native", "json"])
async def bus(request, queues):
    async with running_engine(queues, wire=request.param != "in process", native=request.param == "native") as bus:
        yield bus


IIIS = {"queue", "function_id", "data", "messageReceiptId", "traceparent", "baggage"}


async def test_an_enqueue_without_options_has_iiis_six_members(bus, queues):
    receipt = await bus.trigger("t::later", {"n": 1}, action=Enqueue("mails"))
    assert set(queues.taken[0]) == IIIS
    assert receipt.message_receipt_id == queues.taken[0]["messageReceiptId"]


async def test_options_reach_the_queue_worker_and_only_those_that_were_given(bus, queues):
    options = {"delay_ms": 0, "priority": -3, "idempotency_key": "order-7", "message_group": "é"}
    await bus.trigger("t::later", None, action=Enqueue("mails", **options))
    await bus.trigger("t::later", None, action=Enqueue("mails", idempotency_key=""))
    first, second = queues.taken
    assert {name: first[name] for name in first.keys() - IIIS} == options
    assert {name: second[name] for name in second.keys() - IIIS} == {"idempotency_key": ""}


@pytest.mark.parametrize(
    "moment",
    [
        "2031-01-31T12:00:00Z",
        "2031-01-31T14:00:00.0004+02:00",
        datetime(2031, 1, 31, 14, tzinfo=timezone(timedelta(hours=2))),
    ],
    ids=str,
)
async def test_a_time_arrives_in_utc(bus, queues, moment):
    await bus.trigger("t::later", None, action=Enqueue("mails", run_at=moment, expires_at=moment))
    assert queues.taken[0]["run_at"] == queues.taken[0]["expires_at"] == "2031-01-31T12:00:00.000Z"


@pytest.mark.parametrize("name", ["run_at", "expires_at"])
@pytest.mark.parametrize(
    "moment",
    ["2031-01-31T12:00:00", datetime(2031, 1, 31), "tomorrow", "", "2031-02-30T12:00:00Z", "0001-01-01T00:00:00+01:00"],
    ids=str,
)
async def test_a_time_without_a_zone_and_what_is_no_time_is_refused(bus, queues, name, moment):
    with pytest.raises(InvalidPayload) as caught:
        await bus.trigger("t::later", None, action=Enqueue("mails", **{name: moment}))
    assert f"`{name}`" in caught.value.message
    assert queues.taken == []


@pytest.mark.parametrize("options", [{"delay_ms": -1}, {"delay_ms": 2**80}, {"priority": "high"}, {"message_group": 7}])
async def test_an_option_of_another_kind_is_refused(bus, queues, options):
    with pytest.raises(InvalidPayload) as caught:
        await bus.trigger("t::later", None, action=Enqueue("mails", **options))
    assert next(iter(options)) in caught.value.message
    assert queues.taken == []


async def test_the_receipt_of_an_earlier_enqueue_is_what_the_caller_gets(bus, queues):
    queues.answer = {"messageReceiptId": "the-first-one"}
    receipt = await bus.trigger("t::later", None, action=Enqueue("mails", idempotency_key="k"))
    assert receipt.message_receipt_id == "the-first-one"


async def test_an_error_of_the_queue_worker_keeps_its_code_in_the_details(bus, queues):
    queues.answer = Overloaded("queue `mails` is full", code="queue_full", details={"depth": 9})
    with pytest.raises(EnqueueFailed) as caught:
        await bus.trigger("t::later", None, action=Enqueue("mails"))
    assert caught.value.details == {"code": "queue_full", "depth": 9}


@pytest.mark.parametrize("place", ["in process", "native", "json"])
async def test_an_enqueue_takes_no_longer_than_its_caller_waits(place):
    clock, never = ManualClock(), asyncio.Event()

    class Stuck(Worker):
        """Does not answer."""

        name = "stuck"

        @function("engine::queue::enqueue")
        async def enqueue(self, data: dict) -> None:
            """Wait."""
            await never.wait()

    wire = place != "in process"
    async with running_engine(Stuck(), wire=wire, native=place == "native", clock=clock) as bus:
        call = asyncio.ensure_future(bus.trigger("t::later", None, action=Enqueue("mails"), timeout_s=5))
        await settle()
        await clock.advance(5)
        with pytest.raises(CallTimeout):
            await call
        never.set()


async def test_a_handler_enqueues_with_options(bus, queues):
    await bus.trigger("queues::relay", {"delay_ms": 5})
    assert queues.taken[0]["delay_ms"] == 5


async def test_a_queue_without_a_name_is_left_to_its_worker(bus, queues):
    queues.answer = LinklyError("there is no queue ``", code="queue_not_found")
    with pytest.raises(EnqueueFailed):
        await bus.trigger("t::later", None, action=Enqueue(""))
