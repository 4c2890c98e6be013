"""Durable topics: who gets a message, and when; subscriptions outlive their workers."""

import asyncio
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from linkly import Enqueue, Function, LinklyError, Worker, durable_subscriber, function
from linkly.errors import HandlerFailed
from linkly.testing import ManualClock, wired
from linkly.worker import running as running_worker
from linkly_engine.engine import Engine
from support.database_calls import database_worker, not_any_more, until
from support.database_servers import POSTGRES
from support.queue_workers import App, queue_worker, running_queue, states, until_states

TOPIC = "order.created"


class Subscriber(App):
    """Subscribes `app::work` to a topic, and `app::other` if told."""

    def __init__(self, handler=None, *, both=False, **options):
        super().__init__(handler)
        self.both = both
        self.options = options

    def triggers_of(self, function):
        if function.id == "app::work" or (self.both and function.id == "app::other"):
            return [durable_subscriber(TOPIC, **self.options)]
        return []


@pytest.fixture
async def engine(url_of_queue):
    """An engine with a queue, where workers come and go."""
    async with Engine() as engine:
        await engine.start([database_worker(url_of_queue), queue_worker()])
        yield engine


@asynccontextmanager
async def connected(engine, worker):
    """Run a worker on a connection."""
    async with wired(engine, name=worker.name) as bus, running_worker(worker, bus):
        await bus.trigger("engine::workers::list", {})
        await engine.acknowledged()
        yield bus


async def publish(bus, data, topic=TOPIC):
    return await bus.trigger("iii::durable::publish", {"topic": topic, "data": data})


async def failing(payload):
    raise HandlerFailed("not today")


async def test_every_function_that_has_subscribed_gets_a_message(running_queues):
    app = Subscriber(both=True)
    async with running_queues(app) as bus:
        assert await publish(bus, {"n": 1}) is None
        assert await app.called(2) == [{"n": 1}, {"n": 1}]
        await until_states(bus, done=2)
    assert {job["queue"] for job in app.jobs} == {f"{TOPIC}::app::work@default", f"{TOPIC}::app::other@default"}
    assert {job["topic"] for job in app.jobs} == {TOPIC}
    assert {job["max_attempts"] for job in app.jobs} == {3}


async def test_a_message_without_a_topic_is_refused(running_queues):
    async with running_queues() as bus:
        for request in ({"topic": "", "data": 1}, {"data": 1}):
            with pytest.raises(LinklyError) as caught:
                await bus.trigger("iii::durable::publish", request)
            assert caught.value.code == "topic_not_set"


async def test_other_topics_are_none_of_a_subscriber_s_business(running_queues):
    app = Subscriber()
    async with running_queues(app) as bus:
        await publish(bus, "theirs", "order.gone")
        await publish(bus, "mine")
        assert await app.called(1) == ["mine"]


async def test_max_retries_of_a_subscriber_are_one_attempt_less(running_queues):
    app = Subscriber(failing, max_retries=1, backoff_ms=1)
    async with running_queues(app) as bus:
        await publish(bus, 1)
        await until_states(bus, dead=1)
    assert [job["attempt"] for job in app.jobs] == [1, 2]
    assert app.jobs[0]["max_attempts"] == 2


async def test_a_fifo_subscriber_gets_messages_in_order_and_a_failing_one_holds_up_the_rest(running_queues):
    async def odd(payload):
        if payload == 1 and app.calls.count(1) < 3:
            raise HandlerFailed("once more")

    app = Subscriber(odd, fifo=True, backoff_ms=1)
    async with running_queues(app) as bus:
        for n in range(4):
            await publish(bus, n)
        await until_states(bus, done=4)
    assert app.calls == [0, 1, 1, 1, 2, 3]


async def test_after_a_dead_message_a_fifo_subscriber_goes_on(running_queues):
    async def bad(payload):
        if payload == 0:
            raise LinklyError("never", code="JOB_FAILED")

    app = Subscriber(bad, fifo=True)
    async with running_queues(app) as bus:
        await publish(bus, 0)
        await publish(bus, 1)
        await until_states(bus, dead=1, done=1)
    assert app.calls == [0, 1]


@pytest.mark.parametrize("verdict, calls", [(False, 0), (None, 1), (0, 1), ("", 1)])
async def test_only_a_literal_false_of_a_condition_skips_the_function(running_queues, verdict, calls):
    asked = []

    class Judge(Worker):
        name = "judge"

        @function("judge::wanted")
        async def wanted(self, payload: dict) -> object:
            """Judge."""
            asked.append(payload)
            return verdict

    app = Subscriber(condition="judge::wanted")
    async with running_queues(Judge(), app) as bus:
        await publish(bus, {"n": 1})
        await until_states(bus, done=1)
    assert asked == [{"n": 1}]
    assert len(app.calls) == calls


async def test_a_condition_that_fails_is_a_failed_attempt(running_queues):
    app = Subscriber(condition="nobody::judges", max_retries=1, backoff_ms=1)
    async with running_queues(app) as bus:
        await publish(bus, 1)
        await until_states(bus, dead=1)
    assert app.calls == []


async def test_concurrency_0_pauses(running_queues):
    app = Subscriber(concurrency=0)
    async with running_queues(app) as bus:
        await publish(bus, "held")
        await bus.trigger("app::other", "looked for later", action=Enqueue("default"))
        await until_states(bus, waiting=1, done=1)
    assert app.calls == ["looked for later"]


async def test_a_subscriber_without_a_topic_gets_nothing(running_queues):
    class Lost(App):
        def triggers_of(self, function):
            return [durable_subscriber("")] if function.id == "app::work" else []

    app = Lost()
    async with running_queues(app) as bus:
        await publish(bus, 1)
        assert await states(bus) == {"waiting": 1}
    assert app.calls == []


async def test_a_worker_that_is_away_gets_what_was_published_meanwhile(engine):
    bus = engine.bus("test")
    async with connected(engine, Subscriber()):
        pass
    await publish(bus, "while away")
    assert await states(bus) == {"waiting": 1}
    app = Subscriber()
    async with connected(engine, app):
        assert await app.called(1) == ["while away"]
        await until_states(bus, done=1)


async def test_a_subscription_is_there_after_a_restart_before_its_worker(url_of_queue):
    async with running_queue(url_of_queue, Subscriber(max_retries=4)):
        pass
    async with running_queue(url_of_queue) as bus:
        await publish(bus, "while away")
        assert await states(bus) == {"waiting": 1}
    app = Subscriber(max_retries=4)
    async with running_queue(url_of_queue, app) as bus:
        assert await app.called(1) == ["while away"]
    assert app.jobs[0]["max_attempts"] == 5


async def test_bindings_of_one_function_share_its_messages(engine):
    one, other = Subscriber(), Subscriber()
    bus = engine.bus("test")
    async with connected(engine, one), connected(engine, other):
        for n in range(6):
            await publish(bus, n)
        await until_states(bus, done=6)
    assert sorted(one.calls + other.calls) == list(range(6))


async def test_what_its_code_takes_back_is_subscribed_no_longer_and_waits_for_it(engine):
    app, bus = App(), engine.bus("test")
    async with connected(engine, app) as own:

        async def subscribed():
            registration = own.register_trigger("app::work", durable_subscriber(TOPIC, concurrency=0))
            await own.trigger("engine::workers::list", {})
            await engine.acknowledged()
            return registration

        registration = await subscribed()
        await publish(bus, "before")
        registration.unregister()
        await own.trigger("engine::workers::list", {})
        await engine.acknowledged()
        await publish(bus, "between")
        rows = (
            await bus.trigger(
                "database::query",
                {
                    "sql": "SELECT payload, kind FROM linkly_queue_jobs AS job "
                    "JOIN linkly_queues ON linkly_queues.id = job.queue ORDER BY position"
                },
            )
        )["rows"]
        assert [(row["payload"], row["kind"]) for row in rows] == [('"before"', "subscription"), ('"between"', "kept")]
        own.register_trigger("app::work", durable_subscriber(TOPIC))
        assert await app.called(1) == ["before"]


async def test_a_subscription_goes_on_while_one_of_its_bindings_is_left(engine):
    app, bus = App(), engine.bus("test")
    async with connected(engine, app) as own:
        first = own.register_trigger("app::work", durable_subscriber(TOPIC))
        own.register_trigger("app::work", durable_subscriber(TOPIC))
        await own.trigger("engine::workers::list", {})
        await engine.acknowledged()
        first.unregister()
        await own.trigger("engine::workers::list", {})
        await engine.acknowledged()
        await publish(bus, 1)
        assert await app.called(1) == [1]


@pytest.mark.parametrize("fifo", [False, True])
async def test_the_first_subscription_from_earliest_gets_what_its_topic_has_kept(engine, fifo):
    bus = engine.bus("test")
    for n in range(3):
        await publish(bus, n)
    await publish(bus, "theirs", "order.gone")
    app = Subscriber(start="earliest", concurrency=1, fifo=fifo)
    async with connected(engine, app):
        assert await app.called(3) == [0, 1, 2]
        await until_states(bus, done=3, waiting=1)
        await publish(bus, 3)
        assert await app.called(4) == [0, 1, 2, 3]


async def test_a_subscription_from_now_leaves_what_its_topic_has_kept(engine):
    bus, app = engine.bus("test"), Subscriber()
    await publish(bus, "before")
    async with connected(engine, app):
        await publish(bus, "after")
        assert await app.called(1) == ["after"]
        await until_states(bus, done=1, waiting=1)


async def test_kept_messages_are_bounded_by_age(url_of_queue):
    clock = ManualClock()
    async with running_queue(url_of_queue, clock=clock, subscriptions={"keep_unsubscribed_ms": 60_000}) as bus:
        await publish(bus, 1)
        await clock.advance(59)
        assert await states(bus) == {"waiting": 1}
        await clock.advance(2)
        await until_states(bus, expired=1)


async def test_kept_messages_are_bounded_by_their_number(running_queues):
    async with running_queues(subscriptions={"keep_unsubscribed": 20}) as bus:
        for n in range(21):
            await publish(bus, n)
        assert await states(bus) == {"expired": 3, "waiting": 18}
        sql = "SELECT MIN(position) AS first FROM linkly_queue_jobs WHERE state = 0"
        assert (await bus.trigger("database::query", {"sql": sql}))["rows"] == [{"first": 4}]


async def test_a_message_that_a_subscription_has_no_room_for_is_refused_and_nobody_gets_it(running_queues):
    app = Subscriber(both=True, concurrency=0)
    async with running_queues(app, subscriptions={"max_jobs": 2}) as bus:
        for n in range(2):
            await publish(bus, n)
        with pytest.raises(LinklyError, match=r"app::(work|other)") as caught:
            await publish(bus, 2)
        assert await states(bus) == {"waiting": 4}
    assert caught.value.code == "queue_full"


@pytest.mark.parametrize("fifo", [False, True])
async def test_where_that_is_the_setting_the_oldest_message_is_a_dead_letter_instead(running_queues, fifo):
    let_go = asyncio.Event()
    app = Subscriber(lambda payload: let_go.wait(), concurrency=1, fifo=fifo)
    async with running_queues(app, subscriptions={"max_jobs": 3, "when_full": "dead_letter"}) as bus:
        await publish(bus, 0)
        await app.called(1)
        for n in range(1, 6):
            await publish(bus, n)
        sql = "SELECT payload, reason FROM linkly_queue_jobs WHERE state = 5 ORDER BY position"
        rows = (await bus.trigger("database::query", {"sql": sql}))["rows"]
        assert rows == [{"payload": str(n), "reason": "too_many"} for n in (1, 2, 3)]
        let_go.set()
        await until_states(bus, dead=3, done=3)
    assert app.calls == [0, 4, 5]


async def test_messages_that_all_run_make_no_room(running_queues):
    let_go = asyncio.Event()
    app = Subscriber(lambda payload: let_go.wait())
    async with running_queues(app, subscriptions={"max_jobs": 1, "when_full": "dead_letter"}) as bus:
        await publish(bus, 0)
        await app.called(1)
        with pytest.raises(LinklyError) as caught:
            await publish(bus, 1)
        let_go.set()
    assert caught.value.code == "queue_full"


@pytest.mark.parametrize("before, after", [(False, True), (True, False)])
async def test_a_subscription_that_turns_fifo_or_back_keeps_its_messages(url_of_queue, before, after):
    async with running_queue(url_of_queue, Subscriber(concurrency=0, fifo=before)) as bus:
        for n in range(4):
            await publish(bus, n)
    app = Subscriber(concurrency=1, fifo=after)
    async with running_queue(url_of_queue, app) as bus:
        assert await app.called(4) == [0, 1, 2, 3]
        await publish(bus, 4)
        await until_states(bus, done=5)


async def test_a_subscription_that_has_ended_and_begins_as_fifo_after_a_restart_has_its_messages(url_of_queue):
    async with running_queue(url_of_queue) as bus:
        registration = bus.register_trigger("app::work", durable_subscriber(TOPIC, concurrency=0))
        await until(lambda: has_subscribed(bus))
        for n in range(3):
            await publish(bus, n)
        registration.unregister()
        await until(not_any_more(lambda: has_subscribed(bus)))
    app = Subscriber(fifo=True)
    async with running_queue(url_of_queue, app):
        assert await app.called(3) == [0, 1, 2]


async def test_a_server_that_is_away_learns_of_subscriptions_when_it_is_back():
    if POSTGRES.missing is not None:
        pytest.skip(POSTGRES.missing)
    with POSTGRES.run() as server:
        async with running_queue(server.url) as bus:
            ends = bus.register_trigger("app::work", durable_subscriber(TOPIC))
            await until(lambda: has_subscribed(bus))
            await asyncio.to_thread(server.stop, signal.SIGQUIT)
            ends.unregister()
            bus.register_trigger("app::other", durable_subscriber(TOPIC))
            await asyncio.to_thread(server.start)
            await until(lambda: only_other_has_subscribed(bus))


async def only_other_has_subscribed(bus):
    sql = "SELECT function_id FROM linkly_queues WHERE kind = 'subscription' AND ended_at IS NULL"
    try:
        return (await bus.trigger("database::query", {"sql": sql}))["rows"] == [{"function_id": "app::other"}]
    except LinklyError:
        return False


async def test_the_counters_agree_with_the_jobs(running_queues):
    app = Subscriber(both=True)
    async with running_queues(app) as bus:
        await publish(bus, 1, "order.gone")
        await publish(bus, 2)
        await until_states(bus, done=2, waiting=1)
        sql = (
            "SELECT SUM(accepted) AS accepted, SUM(done) AS done, SUM(bytes) AS bytes, "
            "(SELECT COUNT(*) FROM linkly_queue_jobs AS job WHERE job.queue = counts.queue) AS jobs "
            "FROM linkly_queue_counts AS counts GROUP BY queue HAVING SUM(accepted) > 0 ORDER BY accepted, done"
        )
        rows = (await bus.trigger("database::query", {"sql": sql}))["rows"]
    assert [tuple(int(value) for value in row.values()) for row in rows] == [(1, 0, 1, 1), (1, 1, 0, 1), (1, 1, 0, 1)]


async def test_what_has_ended_does_not_start_again_when_another_engine_changes_a_queue(postgres_url):
    """The job in queue `gate` runs on the first engine when that has seen what the second one did."""
    gate = {"gate": {"poll_interval_ms": 10}}
    async with AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(running_queue(postgres_url, queue_configs=gate)) for _ in range(2)]
        registration = one.register_trigger("late::work", durable_subscriber(TOPIC))
        await until(lambda: has_subscribed(one))
        await publish(one, "left")
        registration.unregister()
        await until(not_any_more(lambda: has_subscribed(one)))
        await two.trigger("queue::pause", {"queue": "gate"})
        await one.trigger("queue::enqueue", {"function_id": "late::work", "queue": "gate", "payload": "open"})
        await two.trigger("queue::resume", {"queue": "gate"})
        calls = []

        async def work(payload: Any) -> None:
            calls.append(payload)

        one.register_function(Function("late::work", work))
        await until_states(one, waiting=1, done=1)
    assert calls == ["open"]


async def has_subscribed(bus):
    sql = "SELECT id FROM linkly_queues WHERE kind = 'subscription' AND ended_at IS NULL"
    return bool((await bus.trigger("database::query", {"sql": sql}))["rows"])
