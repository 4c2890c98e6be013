"""What users need to test their workers: an engine in a fixture, a wire in memory, a clock that tests move.

    async def test_greets():
        async with running_engine(Greeter()) as bus:
            assert await bus.trigger("greeter::hello", {"name": "Ann"}) == "hello Ann"

Durable work is tested without waiting, in two ways. A `HeldQueue` in place of the queue worker runs nothing by itself:

    async def test_an_order_enqueues_its_mail():
        queue = HeldQueue()
        async with running_engine(queue, Shop()) as bus:
            await bus.trigger("shop::order", {"to": "ann@example.com"})
            assert queue.enqueued("shop::mail") == [{"to": "ann@example.com"}]

And `run_queue` has the real one run until it is empty, over delays and retries, by a clock that it moves:

    async def test_a_mail_is_sent_after_a_failure():
        clock, shop = ManualClock(), Shop()
        async with running_engine(*queue_in_memory(), shop, clock=clock) as bus:
            await bus.trigger("shop::order", {"to": "ann@example.com"})
            await run_queue(bus, clock)
            assert shop.sent == ["ann@example.com"]
"""

from linkly.testing.clock import ManualClock, ManualTimer, settle
from linkly.testing.engine import running_engine, wired
from linkly.testing.held_queue import HeldJob, HeldQueue
from linkly.testing.real_queue import queue_in_memory, run_queue

__all__ = [
    "HeldJob",
    "HeldQueue",
    "ManualClock",
    "ManualTimer",
    "queue_in_memory",
    "run_queue",
    "running_engine",
    "settle",
    "wired",
]
