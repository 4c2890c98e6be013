"""Dead letters are listed, redriven and discarded; queues listed and paused; the accounts are right all the time."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from linkly import LinklyError
from linkly.errors import HandlerFailed
from linkly.testing import ManualClock
from support.database_calls import until
from support.queue_workers import App, running_queue, states, until_states

ONCE = {"max_retries": 1}


@pytest.fixture(params=["in process", "over a wire"])
def running(request, url_of_queue):
    """Run a queue both ways, on a database of its own."""

    @asynccontextmanager
    async def run(*workers, **settings):
        async with running_queue(url_of_queue, *workers, wire=request.param == "over a wire", **settings) as bus:
            yield bus
            assert (await bus.trigger("queue::verify"))["differences"] == []

    return run


async def enqueue(bus, *payloads, queue="default", function_id="app::work", **more):
    jobs = [{"function_id": function_id, "payload": payload, "queue": queue, **more} for payload in payloads]
    return (await bus.trigger("queue::enqueue_many", {"jobs": jobs}))["messageReceiptIds"]


class Failing:
    """A handler that fails until it is told not to."""

    def __init__(self):
        self.fails = True

    async def __call__(self, payload):
        if self.fails:
            raise HandlerFailed(f"no {payload}")


@asynccontextmanager
async def with_dead(running, *payloads, **settings):
    """Run a queue in which these payloads are dead."""
    handler = Failing()
    app = App(handler)
    async with running(app, queue_configs={"default": {**ONCE, **settings}, "other": {"concurrency": 1}}) as bus:
        receipts = await enqueue(bus, *payloads)
        await until_states(bus, dead=len(payloads))
        handler.fails = False
        app.calls.clear()
        yield bus, app, receipts


async def test_dead_letters_keep_payload_error_attempts_and_times(running):
    async with with_dead(running, {"n": 1}) as (bus, _, [receipt]):
        answer = await bus.trigger("queue::dead", {"queue": "default"})
    [row] = answer["jobs"]
    assert answer["next_cursor"] is None
    assert (row["id"], row["payload"], row["attempts"], row["reason"]) == (receipt, {"n": 1}, 1, "failed")
    assert row["error"]["message"] == "no {'n': 1}"
    assert row["enqueued_at"] <= row["started_at"] <= row["finished_at"]


@pytest.mark.parametrize(
    ("which", "found"),
    [
        ({}, [1, 2, 3]),
        ({"queue": "default"}, [1, 2, 3]),
        ({"queue": "other"}, []),
        ({"function_id": "app::work"}, [1, 2, 3]),
        ({"function_id": "app::other"}, []),
        ({"error": "no 2"}, [2]),
        ({"reason": "failed"}, [1, 2, 3]),
        ({"reason": "timed_out"}, []),
        ({"died_after": "2020-01-01T00:00:00Z"}, [1, 2, 3]),
        ({"died_after": "2999-01-01T00:00:00Z"}, []),
        ({"died_before": "2020-01-01T00:00:00Z"}, []),
    ],
    ids=str,
)
async def test_dead_letters_are_filtered(tmp_path, which, found):
    @asynccontextmanager
    async def run(*workers, **settings):
        async with running_queue(f"sqlite:{tmp_path}/q.db", *workers, **settings) as bus:
            yield bus

    async with with_dead(run, 1, 2, 3) as (bus, _, _):
        rows = (await bus.trigger("queue::dead", which))["jobs"]
    assert sorted(row["payload"] for row in rows) == found


async def test_pages_of_jobs_and_dead_letters_have_each_once(running):
    async with with_dead(running, *range(7)) as (bus, _, receipts):
        for name in ("dead", "jobs"):
            found, cursor = [], None
            while True:
                answer = await bus.trigger(f"queue::{name}", {"limit": 3, "cursor": cursor})
                found += [row["id"] for row in answer["jobs"]]
                cursor = answer["next_cursor"]
                if cursor is None:
                    break
            assert sorted(found) == sorted(receipts)
            assert len(found) == 7


async def test_jobs_are_filtered_by_queue_state_and_function(running):
    async with running(queue_configs={"other": {}}) as bus:
        await enqueue(bus, 1)
        await enqueue(bus, 2, queue="other", function_id="app::other")
        await enqueue(bus, 3, delay_ms=3_600_000)
        for which, count in (
            ({}, 3),
            ({"queue": "other"}, 1),
            ({"state": "delayed"}, 1),
            ({"state": "done"}, 0),
            ({"function_id": "app::other"}, 1),
        ):
            assert len((await bus.trigger("queue::jobs", which))["jobs"]) == count, which
        with pytest.raises(LinklyError, match="there is no queue `none`; there are: default, "):
            await bus.trigger("queue::jobs", {"queue": "none"})
        with pytest.raises(LinklyError, match="cursor is `x`"):
            await bus.trigger("queue::jobs", {"cursor": "x"})


async def test_a_redriven_job_begins_anew_under_its_receipt(running):
    async with with_dead(running, 1, 2) as (bus, app, receipts):
        assert await bus.trigger("queue::redrive", {"ids": [receipts[0]]}) == {"redriven": 1}
        row = await bus.trigger("queue::wait", {"id": receipts[0]})
        assert (row["state"], row["attempts"], row["error"], row["reason"]) == ("done", 1, None, None)
        await until_states(bus, dead=1, done=1)
        assert app.jobs[-1]["attempt"] == 1
        assert await bus.trigger("queue::redrive", {"ids": receipts}) == {"redriven": 1}
        await until_states(bus, done=2)


async def test_redriven_jobs_come_behind_those_that_wait(running):
    async with with_dead(running, 1, 2, 3, concurrency=1) as (bus, app, _):
        await bus.trigger("queue::pause", {"queue": "default"})
        await enqueue(bus, 4)
        assert await bus.trigger("queue::redrive", {"queue": "default"}) == {"redriven": 3}
        await bus.trigger("queue::resume", {"queue": "default"})
        assert await app.called(4) == [4, 1, 2, 3]
        await until_states(bus, done=4)


async def test_a_filter_redrives_what_it_matches(running):
    async with with_dead(running, 1, 2, 3) as (bus, _, _):
        assert await bus.trigger("queue::redrive", {"error": "no 2"}) == {"redriven": 1}
        await until_states(bus, dead=2, done=1)


async def test_a_whole_queue_is_redriven_in_parts(running):
    async with with_dead(running, *range(300)) as (bus, _, _):
        assert await bus.trigger("queue::redrive", {"queue": "default"}) == {"redriven": 300}
        await until_states(bus, done=300)


async def test_what_dies_again_is_redriven_once(running):
    async with with_dead(running, *range(200)) as (bus, app, _):
        app.handler.fails = True
        assert await bus.trigger("queue::redrive", {"queue": "default"}) == {"redriven": 200}
        await app.called(200)
        await until_states(bus, dead=200)
        assert len(app.calls) == 200


async def test_a_job_is_redriven_into_another_queue(running):
    async with with_dead(running, 1) as (bus, app, [receipt]):
        assert await bus.trigger("queue::redrive", {"ids": [receipt], "into": "other"}) == {"redriven": 1}
        assert (await bus.trigger("queue::wait", {"id": receipt}))["queue"] == "other"
        assert app.jobs[-1]["queue"] == "other"
        infos = {row["queue"]: row for row in (await bus.trigger("queue::list"))["queues"]}
        assert [(infos[name]["accepted"], infos[name]["done"]) for name in ("default", "other")] == [(0, 0), (1, 1)]


async def test_nothing_is_redriven_or_discarded_without_saying_what(running):
    async with with_dead(running, 1) as (bus, _, _):
        for name in ("redrive", "discard"):
            with pytest.raises(LinklyError, match="say which jobs"):
                await bus.trigger(f"queue::{name}", {})
        await until_states(bus, dead=1)


async def test_dead_letters_are_discarded(running):
    async with with_dead(running, 1, 2, 3) as (bus, _, receipts):
        assert await bus.trigger("queue::discard", {"ids": [receipts[0], "none"]}) == {"discarded": 1}
        assert await bus.trigger("queue::discard", {"queue": "default"}) == {"discarded": 2}
        await until_states(bus, discarded=3)


async def test_what_waits_is_discarded_only_if_that_is_said(running):
    async with running() as bus:
        await enqueue(bus, 1, 2)
        assert await bus.trigger("queue::discard", {"queue": "default"}) == {"discarded": 0}
        assert await bus.trigger("queue::discard", {"queue": "default", "waiting": True}) == {"discarded": 2}
        await until_states(bus, discarded=2)


async def test_a_dead_head_of_a_group_comes_back_to_the_end_of_its_group(running):
    handler = Failing()
    app = App(handler)
    async with running(app, queue_configs={"lines": {"type": "fifo", "message_group_field": "g", **ONCE}}) as bus:
        await enqueue(bus, {"g": "a"}, queue="lines")
        await until_states(bus, dead=1)
        handler.fails = False
        await bus.trigger("queue::redrive", {"queue": "lines"})
        await until_states(bus, done=1)


async def test_a_paused_queue_accepts_and_starts_nothing_also_after_a_restart(running):
    app = App()
    async with running(app) as bus:
        assert await bus.trigger("queue::pause", {"queue": "default"}) == {"queue": "default", "paused": True}
        await enqueue(bus, 1)
        assert (await bus.trigger("queue::show", {"queue": "default"}))["paused"] is True
    async with running(app) as bus:
        assert await states(bus) == {"waiting": 1}
        assert await bus.trigger("queue::resume", {"queue": "default"}) == {"queue": "default", "paused": False}
        assert await app.called(1) == [1]
        await until_states(bus, done=1)


async def test_a_queue_says_how_many_of_what_it_has(running):
    async with running(queue_configs={"mail": {"concurrency": 3}}) as bus:
        await enqueue(bus, "abc", queue="mail")
        await enqueue(bus, 1, queue="mail", delay_ms=3_600_000)
        info = await bus.trigger("queue::show", {"queue": "mail"})
        assert (info["kind"], info["configured"], info["paused"]) == ("queue", True, False)
        assert (info["accepted"], info["waiting"], info["delayed"], info["bytes"]) == (2, 1, 1, 6)
        assert info["oldest_waiting_ms"] >= 0
        assert info["absent"] == [{"function_id": "app::work", "namespace": "default", "jobs": 2}]
        assert info["last_minute"] == {"accepted": 2, "done": 0, "dead": 0}
        assert info["settings"]["concurrency"] == 3
        names = [row["queue"] for row in (await bus.trigger("queue::list"))["queues"]]
        assert {"default", "mail"} <= set(names)


async def test_the_last_minute_ends_after_a_minute(tmp_path):
    clock, app = ManualClock(), App()
    async with running_queue(f"sqlite:{tmp_path}/q.db", app, clock=clock) as bus:
        await enqueue(bus, 1)

        async def counted():
            info = await bus.trigger("queue::show", {"queue": "default"})
            return info["last_minute"] == {"accepted": 1, "done": 1, "dead": 0}

        await until(counted)
        await clock.advance(61)
        after = (await bus.trigger("queue::show", {"queue": "default"}))["last_minute"]
    assert after == {"accepted": 0, "done": 0, "dead": 0}


async def test_differences_between_counters_and_jobs_are_named(tmp_path):
    async with running_queue(f"sqlite:{tmp_path}/q.db") as bus:
        await enqueue(bus, 1)
        assert (await bus.trigger("queue::verify"))["ok"] is True
        sql = "UPDATE linkly_queue_counts SET accepted = 5, dead = 2 WHERE accepted = 1"
        await bus.trigger("database::execute", {"sql": sql})
        answer = await bus.trigger("queue::verify")
    assert answer["ok"] is False
    assert [(each["queue"], each["what"], each["counted"], each["found"]) for each in answer["differences"]] == [
        ("default", "jobs that have not ended", 3, 1),
        ("default", "dead", 2, 0),
    ]


async def test_the_accounts_are_right_while_everything_happens_at_once(running):
    handler = Failing()
    app = App(handler)
    async with running(app, queue_configs={"default": {"max_retries": 2, "backoff_ms": 1}, "other": ONCE}) as bus:
        done = asyncio.Event()

        async def verify():
            while not done.is_set():
                assert (await bus.trigger("queue::verify"))["differences"] == []

        async def one(n):
            [receipt] = await enqueue(bus, n, queue=("default", "other")[n % 2])
            if n % 3 == 0:
                await bus.trigger("queue::cancel", {"id": receipt})
            elif n % 3 == 1:
                await bus.trigger("queue::wait", {"id": receipt})
                await bus.trigger("queue::redrive", {"ids": [receipt], "into": "default"})
            else:
                await bus.trigger("queue::discard", {"ids": [receipt], "waiting": True})

        checking = asyncio.create_task(verify())
        await asyncio.gather(*(one(n) for n in range(60)))
        done.set()
        await checking
