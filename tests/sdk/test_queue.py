"""What handlers and the queue worker share: the current job, how a handler decides its fate, the two trigger types."""

from datetime import UTC, datetime

import msgspec
import pytest

from linkly import (
    DeadJob,
    Job,
    JobFailed,
    LinklyError,
    RetryLater,
    Worker,
    current_job,
    durable_subscriber,
    function,
    subscribe_dead,
)
from linkly.queue import DeadTrigger, SubscriberQueue, SubscriberTrigger
from linkly.testing import running_engine

JOB = Job(
    id="r-1", queue="mails", attempt=2, max_attempts=3, enqueued_at=datetime(2031, 1, 31, 12, tzinfo=UTC), topic="t"
)


class Handlers(Worker):
    """Runs jobs."""

    name = "handlers"

    @function("handlers::job")
    async def job(self) -> Job:
        """Answer which job this is."""
        return current_job()

    @function("handlers::in_thread")
    def in_thread(self) -> bool:
        """Ask in a thread whether it is the last attempt."""
        return current_job().is_last

    @function("handlers::outside")
    async def outside(self) -> str:
        """Ask where there may be no job."""
        try:
            return current_job().id
        except LookupError as error:
            return str(error)

    @function("handlers::fail")
    async def fail(self) -> None:
        """Fail for good."""
        raise JobFailed("no address", details={"order": 7})

    @function("handlers::later")
    async def later(self, after_s: float) -> None:
        """Ask for another attempt."""
        raise RetryLater(after_s)


@pytest.fixture(params=["in process", "native", "json"])
async def bus(request):
    wire = request.param != "in process"
    async with running_engine(Handlers(), wire=wire, native=request.param == "native") as bus:
        yield bus


async def test_a_handler_knows_its_job(bus):
    metadata = {"job": msgspec.to_builtins(JOB)}
    assert await bus.trigger("handlers::job", None, metadata=metadata, result_type=Job) == JOB
    assert await bus.trigger("handlers::in_thread", None, metadata=metadata) is False
    last = {"job": msgspec.to_builtins(msgspec.structs.replace(JOB, attempt=3))}
    assert await bus.trigger("handlers::in_thread", None, metadata=last) is True


@pytest.mark.parametrize("metadata", [None, {}, {"job": None}, {"job": {"id": "of something else"}}, [1]])
async def test_outside_of_a_job_there_is_none(bus, metadata):
    assert "inside a function that a queue has called" in await bus.trigger("handlers::outside", metadata=metadata)


def test_outside_of_a_handler_there_is_no_job():
    with pytest.raises(LookupError):
        current_job()


async def test_a_handler_decides_the_fate_of_its_job(bus):
    with pytest.raises(JobFailed) as failed:
        await bus.trigger("handlers::fail")
    assert (failed.value.code, failed.value.details) == ("JOB_FAILED", {"order": 7})
    with pytest.raises(RetryLater) as later:
        await bus.trigger("handlers::later", {"after_s": 1.5})
    assert (later.value.code, later.value.retry_after_ms) == ("JOB_RETRY_LATER", 1500)


@pytest.mark.parametrize("after_s", [-1, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused_where_it_is_written(after_s):
    with pytest.raises(ValueError, match="0 or more"):
        RetryLater(after_s)


@pytest.mark.parametrize("details", [{}, {"retry_after_ms": "soon"}, {"retry_after_ms": -5}, {"retry_after_ms": True}])
def test_a_foreign_retry_without_a_time_is_one_at_once(details):
    error = LinklyError.registered["JOB_RETRY_LATER"]
    made = error.__new__(error)
    LinklyError.__init__(made, "later", details=details)
    assert isinstance(made, RetryLater)
    assert made.retry_after_ms == 0


def test_a_durable_subscriber_has_iiis_config():
    declared = durable_subscriber(
        "order.created", max_retries=2, backoff_ms=500, concurrency=1, fifo=True, start="earliest", condition="a::eu"
    )
    assert declared.type == "durable:subscriber"
    assert declared.config == {
        "topic": "order.created",
        "condition_function_id": "a::eu",
        "queue_config": {"type": "fifo", "maxRetries": 2, "concurrency": 1, "backoffDelayMs": 500},
        "from": "earliest",
    }
    assert msgspec.convert(declared.config, SubscriberTrigger) == SubscriberTrigger(
        topic="order.created",
        condition_function_id="a::eu",
        queue_config=SubscriberQueue(type="fifo", max_retries=2, concurrency=1, backoff_delay_ms=500),
        start="earliest",
    )
    assert durable_subscriber("t").config == {"topic": "t"}
    assert durable_subscriber("t", fifo=False).config == {"topic": "t", "queue_config": {"type": "standard"}}


def test_what_iii_reads_and_does_not_use_harms_nothing():
    given = {
        "topic": "t",
        "queue_config": {"type": "x", "maxPriority": 5, "backoffType": 1, "visibilityTimeout": None, "delaySeconds": 0},
    }
    assert msgspec.convert(given, SubscriberTrigger).queue_config == SubscriberQueue(type="x")
    assert msgspec.convert({}, SubscriberTrigger) == SubscriberTrigger()


def test_dead_jobs_of_one_queue_or_of_all():
    assert msgspec.convert(subscribe_dead("mails").config, DeadTrigger) == DeadTrigger(queue="mails")
    assert (subscribe_dead().type, subscribe_dead().config) == ("queue:dead", {})


def test_a_dead_job_crosses_as_json():
    text = b"""{"id":"r-1","queue":"mails","function_id":"a::b","payload":{"n":1},"attempts":2,"max_attempts":3,
        "reason":"refused","error":{"code":"JOB_FAILED","message":"no address"},
        "enqueued_at":"2031-01-31T12:00:00Z","died_at":"2031-02-14T12:00:00Z"}"""
    dead = msgspec.json.decode(text, type=DeadJob)
    assert (dead.namespace, dead.error.code, dead.enqueued_at) == ("default", "JOB_FAILED", JOB.enqueued_at)
    assert msgspec.json.decode(msgspec.json.encode(dead), type=DeadJob) == dead
