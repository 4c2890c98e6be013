"""Several engines whose queues are in one database of a server: each job has one of them, and none is left behind."""

import asyncio
import contextlib
import signal

import pytest

from linkly import LinklyError, durable_subscriber
from linkly.errors import HandlerFailed
from linkly.testing import ManualClock, running_engine
from linkly_workers.queue.queues import Queues
from linkly_workers.queue.settings import SubscriptionSettings
from linkly_workers.queue.store import QueueStore
from support.database_calls import database_worker, execute, rows, until, value
from support.database_servers import POSTGRES
from support.queue_workers import App, counted, queue_worker, running_queue, states, until_states

LINES = {"lines": {"type": "fifo", "message_group_field": "group", "concurrency": 3, "backoff_ms": 5}}
QUICK = {"default": {"poll_interval_ms": 10, "backoff_ms": 5}}


@pytest.fixture
def url(postgres_url):
    """Return the url of an empty database that engines can share."""
    return postgres_url


class Subscriber(App):
    """Subscribes `app::work` to a topic."""

    def triggers_of(self, function):
        return [durable_subscriber("orders")] if function.id == "app::work" else []


@contextlib.asynccontextmanager
async def engines(url, *apps, clock=None, **settings):
    """Run an engine for each of the apps; `None` is one without."""
    settings.setdefault("queue_configs", QUICK)
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                running_queue(url, *([] if app is None else [app]), clock=clock, **settings)
            )
            for app in apps
        ]


def enqueue_many(bus, jobs, **common):
    """Enqueue jobs of these payloads."""
    return bus.trigger(
        "queue::enqueue_many", {"jobs": [{"function_id": "app::work", "payload": job, **common} for job in jobs]}
    )


async def test_what_one_engine_has_accepted_another_one_runs(url):
    app = App()
    async with engines(url, None, app) as [front, _]:
        await enqueue_many(front, [{"n": 1}])
        assert await app.called(1) == [{"n": 1}]
        await until_states(front, done=1)


async def test_a_job_that_another_engine_has_delayed_runs_when_it_is_due(url):
    app = App()
    async with engines(url, None, app) as [front, _]:
        await enqueue_many(front, [{"n": 1}], delay_ms=30)
        await app.called(1)


async def test_every_job_runs_once_and_on_both_engines(url):
    one, two = App(), App()
    async with engines(url, one, two) as buses:
        await asyncio.gather(*(enqueue_many(buses[n % 2], [100 * n + i for i in range(100)]) for n in range(6)))
        await until_states(buses[0], done=600)
        assert await counted(buses[0]) == {"accepted": 600, "done": 600}
    assert sorted(one.calls + two.calls) == list(range(600))
    assert one.calls
    assert two.calls


async def test_groups_stay_in_order_over_two_engines(url):
    ran = []

    async def work(payload):
        ran.append((payload["group"], payload["n"]))
        if payload["n"] % 5 == 3 and ran.count(ran[-1]) == 1:
            raise HandlerFailed("the first time")

    settings = {"lines": LINES["lines"] | {"poll_interval_ms": 10}}
    async with engines(url, App(work), App(work), queue_configs=settings) as buses:

        async def accept(group, bus):
            for n in range(10):
                await enqueue_many(bus, [{"group": group, "n": n}], queue="lines")

        await asyncio.gather(*(accept(group, buses[at % 2]) for at, group in enumerate("abcdef")))
        await until_states(buses[0], done=60)
        assert await rows(buses[0], "SELECT * FROM linkly_queue_groups") == []
    for group in "abcdef":
        mine = [n for name, n in ran if name == group]
        assert mine == sorted(mine)
        assert set(mine) == set(range(10))


async def test_jobs_of_one_group_never_run_side_by_side_whoever_enqueues_and_runs_them(url):
    """A group that empties while both engines enqueue for it: no job is left behind, and no two are active."""
    active, most = 0, 0

    async def work(payload):
        nonlocal active, most
        active += 1
        most = max(most, active)
        await asyncio.sleep(0)
        active -= 1

    settings = {"lines": LINES["lines"] | {"poll_interval_ms": 10}}
    async with engines(url, App(work), App(work), queue_configs=settings) as buses:
        for _ in range(40):
            await asyncio.gather(*(enqueue_many(bus, [{"group": "a"}], queue="lines") for bus in buses))
        await until_states(buses[0], done=80)
    assert most == 1


async def test_the_same_key_on_two_engines_at_once_is_one_job(url):
    app = App()
    async with engines(url, app, None) as buses:
        job = {"function_id": "app::work", "payload": 1, "idempotency_key": "k"}
        answers = await asyncio.gather(*(bus.trigger("queue::enqueue", job) for bus in buses * 5))
        assert len({answer["messageReceiptId"] for answer in answers}) == 1
        await until_states(buses[0], done=1)
        assert await counted(buses[0]) == {"accepted": 1, "done": 1}


async def test_jobs_of_an_engine_without_a_lease_run_elsewhere_and_its_late_end_is_refused(url):
    let_go = asyncio.Event()
    stuck, app = App(lambda payload: let_go.wait()), App()
    worker = queue_worker(queue_configs={"default": QUICK["default"] | {"concurrency": 1}})
    async with running_engine(database_worker(url), worker, stuck) as paused:
        await enqueue_many(paused, [{"n": 1}])
        await stuck.called(1)
        async with engines(url, app) as [other]:
            await execute(other, "UPDATE linkly_queue_engines SET lease_until = 0")
            await app.called(1)
            await until_states(other, done=1)
            let_go.set()
            queue = worker.queue("default")
            await until(_is(lambda: queue.consumer.late == 1 and not queue.consumer.active))
            assert await states(other) == {"done": 1}
            assert await counted(other) == {"accepted": 1, "done": 1}
    assert [job["attempt"] for job in stuck.jobs + app.jobs] == [1, 2]


async def test_the_last_attempt_of_an_engine_without_a_lease_is_dead(url):
    stuck = App(lambda payload: asyncio.Event().wait())
    settings = {"default": {"max_retries": 1, "poll_interval_ms": 10}}
    async with engines(url, stuck, None, queue_configs=settings, stop_grace_s=0) as [paused, other]:
        await enqueue_many(paused, [{"n": 1}])
        await stuck.called(1)
        await execute(other, "UPDATE linkly_queue_engines SET lease_until = 0")
        await until_states(other, dead=1)
        assert await value(other, "SELECT reason FROM linkly_queue_jobs") == "worker_lost"
        assert await counted(other) == {"accepted": 1, "dead": 1}


async def test_of_engines_that_adopt_at_once_one_takes_each_job(url):
    app = App(lambda payload: asyncio.Event().wait())
    settings = {"default": {"concurrency": 20, "poll_interval_ms": 1_000_000}}
    async with engines(url, app, None, queue_configs=settings, stop_grace_s=0) as [bus, _]:
        await enqueue_many(bus, range(20))
        await app.called(20)
        await until_states(bus, active=20)
        clock = ManualClock()
        stores = [QueueStore(bus.trigger, "primary", clock, 1000) for _ in range(4)]
        await asyncio.gather(*(store.open(f"adopter {n}") for n, store in enumerate(stores)))
        # At the last moment: the engine that is gone renews its lease otherwise.
        await execute(bus, "UPDATE linkly_queue_engines SET lease_until = 0 WHERE name NOT LIKE 'adopter%'")
        taken = await asyncio.gather(*(_adopted(store) for store in stores))
        assert sorted(position for each in taken for position in each) == sorted(
            [row["position"] for row in await rows(bus, "SELECT position FROM linkly_queue_jobs")]
        )
        assert await states(bus) == {"waiting": 20}


async def _adopted(store):
    lost = await store.lost()
    assert len(lost) == 20
    turn = await store.turn(lost[0].queue, [job.ended(3) for job in lost], engine=lost[0].engine)
    return turn.taken


async def test_of_engines_that_adopt_at_once_one_tells_of_each_death(url):
    app, told = App(lambda payload: asyncio.Event().wait()), []
    settings = {"default": {"concurrency": 20, "poll_interval_ms": 1_000_000}}
    async with engines(url, app, queue_configs=settings, stop_grace_s=0) as [bus]:
        await enqueue_many(bus, range(20))
        await app.called(20)
        await until_states(bus, active=20)
        await execute(bus, "UPDATE linkly_queue_jobs SET starts = 3")
        adopting = []
        for number in range(4):
            store = QueueStore(bus.trigger, "primary", bus.clock, 1000)
            await store.open(f"adopter {number}")
            adopting.append(Queues(store, bus, SubscriptionSettings()))
            adopting[-1].endings.listen(lambda queue, state, positions: told.extend(positions))
        # At the last moment: the engine that is gone renews its lease otherwise.
        await execute(bus, "UPDATE linkly_queue_engines SET lease_until = 0 WHERE name NOT LIKE 'adopter%'")
        await asyncio.gather(*(each.adopt() for each in adopting))
        assert sorted(told) == [
            row["position"] for row in await rows(bus, "SELECT position FROM linkly_queue_jobs ORDER BY position")
        ]


async def test_a_lease_is_renewed_while_jobs_run(url):
    clock, let_go = ManualClock(), asyncio.Event()
    app = App(lambda payload: let_go.wait())
    async with engines(url, app, clock=clock) as [bus]:
        await enqueue_many(bus, [1])
        await app.called(1)
        ask = "SELECT MAX(lease_until) FROM linkly_queue_engines"
        first = await value(bus, ask)
        await clock.advance(10.1)

        async def renewed():
            return await value(bus, ask) > first

        await until(renewed)
        let_go.set()
        await until_states(bus, done=1)


async def test_an_idle_engine_writes_nothing(url):
    clock = ManualClock()
    tables = ("queues", "queue_lanes", "queue_jobs", "queue_groups", "queue_keys", "queue_engines", "queue_counts")
    versions = " UNION ALL ".join(f"SELECT '{table}' || ctid || xmin AS row FROM linkly_{table}" for table in tables)
    async with engines(url, App(), App(), clock=clock) as buses:
        await enqueue_many(buses[0], [1, 2])
        await until_states(buses[0], done=2)
        before = await rows(buses[0], versions)
        for _ in range(60):
            await clock.advance(1)
        assert await rows(buses[0], versions) == before


async def test_counts_of_engines_that_have_left_are_in_one_row(url):
    for _ in range(3):
        app = App()
        async with engines(url, app) as [bus]:
            await enqueue_many(bus, [1, 2])
            await app.called(2)
            await until(_all_done(bus))
    async with engines(url, None) as [bus]:
        found = await rows(bus, "SELECT engine, accepted, done FROM linkly_queue_counts WHERE accepted > 0")
        assert found == [{"engine": 0, "accepted": 6, "done": 6}]
        assert await value(bus, "SELECT COUNT(*) FROM linkly_queue_engines") == 1


async def test_a_queue_that_another_engine_has_paused_starts_nothing(url):
    app, worker = App(), queue_worker(queue_configs=QUICK)
    async with running_engine(database_worker(url), worker, app) as bus, engines(url, None) as [other]:
        await execute(other, "UPDATE linkly_queues SET paused = 1")
        await until(_is(lambda: worker.queue("default").consumer.paused))
        await enqueue_many(other, [1])
        assert await states(other) == {"waiting": 1}
        await execute(other, "UPDATE linkly_queues SET paused = 0")
        await app.called(1)
        await until_states(bus, done=1)


async def test_a_subscription_that_one_engine_has_made_is_served_by_others_that_have_its_function(url):
    app, worker = App(), queue_worker(queue_configs=QUICK)
    async with running_engine(database_worker(url), worker, app) as bus:
        async with engines(url, Subscriber()):
            pass  # it is another engine's, and that is gone again
        await bus.trigger("iii::durable::publish", {"topic": "orders", "data": {"n": 1}})
        assert await app.called(1) == [{"n": 1}]
        await until_states(bus, done=1)
        assert await counted(bus) == {"accepted": 1, "done": 1}


async def test_a_server_that_is_killed_and_started_again_loses_no_job():
    if POSTGRES.missing is not None:
        pytest.skip(POSTGRES.missing)
    one, two = App(), App()
    with POSTGRES.run() as server:
        async with engines(server.url, one, two, lease_ms=1000) as buses:

            async def accept(n):
                job = {"function_id": "app::work", "payload": n, "idempotency_key": str(n)}
                while True:
                    with contextlib.suppress(LinklyError):
                        return await buses[n % 2].trigger("queue::enqueue", job)

            first = [asyncio.create_task(accept(n)) for n in range(100)]
            await one.called(5)
            await asyncio.to_thread(server.stop, signal.SIGQUIT)
            second = [asyncio.create_task(accept(n)) for n in range(100, 200)]
            await asyncio.to_thread(server.start)
            await asyncio.gather(*first, *second)
            await until_states(buses[0], done=200)
            assert await counted(buses[0]) == {"accepted": 200, "done": 200}
    assert {*one.calls, *two.calls} == set(range(200))


def _is(condition):
    async def ask():
        return condition()

    return ask


def _all_done(bus):
    async def ask():
        return set(await states(bus)) == {"done"}

    return ask
