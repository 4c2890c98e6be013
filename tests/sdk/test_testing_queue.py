"""Durable work in the tests of users: what was enqueued, and what comes of it, without waiting."""

import pytest

import linkly
from linkly import Enqueue, RetryLater, Worker, current_job, durable_subscriber, function
from linkly.testing import HeldQueue, ManualClock, queue_in_memory, run_queue, running_engine


class Shop(Worker):
    """Takes orders, whose mails a queue sends: a worker as users write it."""

    name = "shop"

    def __init__(self, failures=0):
        super().__init__()
        self.failures = failures
        self.sent = []
        self.told = []

    @function("shop::order")
    async def order(self, to: str) -> None:
        await self.bus.trigger("shop::mail", {"to": to}, action=Enqueue("default", delay_ms=60_000))
        await self.bus.trigger("iii::durable::publish", {"topic": "order.created", "data": {"to": to}})

    @function("shop::mail")
    async def mail(self, to: str) -> None:
        if current_job().attempt <= self.failures:
            raise RetryLater(3600)
        self.sent.append((to, self.bus.clock.time()))

    @function("shop::tell", triggers=[durable_subscriber("order.created")])
    async def tell(self, to: str) -> None:
        self.told.append(to)


# --- two tests as users write them -------------------------------------------------------------------------------


async def test_an_order_enqueues_its_mail():
    queue, shop = HeldQueue(), Shop()
    async with running_engine(queue, shop) as bus:
        await bus.trigger("shop::order", {"to": "ann@example.com"})
        assert queue.enqueued("shop::mail") == [{"to": "ann@example.com"}]
        assert queue.published("order.created") == [{"to": "ann@example.com"}]
        assert shop.sent == []
        await queue.run()
        assert shop.told == ["ann@example.com"]


async def test_a_mail_that_fails_is_sent_an_hour_later():
    clock, shop = ManualClock(start=1_700_000_000), Shop(failures=1)
    async with running_engine(*queue_in_memory(), shop, clock=clock) as bus:
        await bus.trigger("shop::order", {"to": "ann@example.com"})
        await run_queue(bus, clock)
        [(to, at)] = shop.sent
        assert to == "ann@example.com"
        assert at == pytest.approx(1_700_000_000 + 60 + 3600, abs=1)


# --- what they rest on --------------------------------------------------------------------------------------------


@pytest.fixture(params=["in process", "over a wire"])
def wire(request):
    return request.param == "over a wire"


async def test_a_held_job_says_how_it_was_enqueued(wire):
    queue = HeldQueue()
    async with running_engine(queue, wire=wire) as bus:
        receipt = await bus.trigger("a::b", {"n": 1}, action=Enqueue("mails", delay_ms=5, idempotency_key="k"))
        await bus.trigger("queue::enqueue", {"function_id": "a::b", "payload": 2})
        await bus.trigger("queue::enqueue_many", {"jobs": [{"function_id": "a::c"}]})
    first, second, third = queue.jobs
    assert (first.id, first.queue, first.payload) == (receipt.message_receipt_id, "mails", {"n": 1})
    assert (first.delay_ms, first.idempotency_key) == (5, "k")
    assert (second.function_id, second.payload, second.queue) == ("a::b", 2, "default")
    assert (third.function_id, third.payload) == ("a::c", None)


async def test_what_a_block_collects_is_held_when_it_is_committed(wire):
    queue = HeldQueue()
    database, _ = queue_in_memory()
    async with running_engine(database, queue, wire=wire) as bus:
        with pytest.raises(linkly.LinklyError):  # noqa: PT012
            async with linkly.atomic(bus) as tx:
                tx.trigger("a::b", 1, action=Enqueue("default"))
                tx.execute("SELECT 1 WHERE 1 = 0", expect_rows=1)
        assert queue.jobs == []
        async with linkly.atomic(bus) as tx:
            tx.execute("CREATE TABLE t (id INTEGER)")
            tx.trigger("a::b", 2, action=Enqueue("default"))
            tx.publish("t", 3)
        await bus.trigger("queue::enqueue", {"function_id": "a::b", "payload": 4})
    assert sorted(queue.enqueued("a::b")) == [2, 4]
    assert queue.published("t") == [3]


async def test_what_a_held_job_raises_is_raised(wire):
    queue, shop = HeldQueue(), Shop(failures=1)
    async with running_engine(queue, shop, wire=wire) as bus:
        for to in ("ann", "bob"):
            await bus.trigger("shop::mail", {"to": to}, action=Enqueue("default"))
        with pytest.raises(linkly.LinklyError, match="called again in 3600 s"):
            await queue.run()
        assert queue.enqueued("shop::mail") == [{"to": "bob"}]


async def test_a_line_goes_on_behind_a_retry(wire):
    clock, shop = ManualClock(), Shop(failures=1)
    workers = queue_in_memory(queue_configs={"line": {"type": "fifo", "message_group_field": "to"}})
    async with running_engine(*workers, shop, clock=clock, wire=wire) as bus:
        for _ in range(2):
            await bus.trigger("shop::mail", {"to": "ann"}, action=Enqueue("line"))
        await run_queue(bus, clock)
    assert [to for to, _ in shop.sent] == ["ann", "ann"]


async def test_an_empty_queue_is_empty_at_once(wire):
    clock = ManualClock()
    async with running_engine(*queue_in_memory(), clock=clock, wire=wire) as bus:
        await bus.trigger("iii::durable::publish", {"topic": "nobody's", "data": 1})
        before = clock.time()
        await run_queue(bus, clock)
        assert clock.time() == before


async def test_a_job_that_is_dead_is_not_waited_for(wire):
    clock, shop = ManualClock(), Shop(failures=99)
    async with running_engine(*queue_in_memory(), shop, clock=clock, wire=wire) as bus:
        await bus.trigger("shop::mail", {"to": "ann"}, action=Enqueue("default"))
        await run_queue(bus, clock)
        [dead] = (await bus.trigger("queue::dead", {}))["jobs"]
        assert (dead["function_id"], dead["attempts"]) == ("shop::mail", 3)


async def test_a_job_that_nobody_serves_is_named(wire):
    clock = ManualClock()
    async with running_engine(*queue_in_memory(), clock=clock, wire=wire) as bus:
        await bus.trigger("absent::work", {}, action=Enqueue("default"))
        with pytest.raises(AssertionError, match="nobody serves `absent::work`"):
            await run_queue(bus, clock)
