"""Runs in tasks that are used again: each has a task to itself, and nothing passes from one to the next."""

import asyncio
import gc
import sys
from contextvars import ContextVar

import anyio
import pytest
import uvloop

from linkly.runner import IDLE_LIMIT, Run

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

variable: ContextVar[object] = ContextVar("variable", default="unset")


@pytest.fixture(params=LOOPS, name="run")
def _run(request):
    """Run a coroutine function in a loop of each kind, with one task that waits for work."""

    def run(main):
        async def with_one_that_waits():
            await ended(nothing())
            await main()

        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(with_one_that_waits())

    return run


async def nothing():
    """End at once."""


async def ended(coroutine):
    """Start a coroutine and wait for its end."""
    over = asyncio.Event()

    async def run():
        try:
            await coroutine
        finally:
            over.set()

    Run(run())
    await over.wait()


def test_runs_begin_in_the_next_turn_of_the_loop_in_order(run):
    async def main():
        heard = []

        async def append(number):
            heard.append(number)
            if number == 5:
                await asyncio.sleep(0)
                heard.append("5 again")

        for number in range(5):
            Run(append(number))
        assert heard == []
        await asyncio.sleep(0)
        assert heard == [0, 1, 2, 3, 4]
        for number in range(5, 9):
            Run(append(number))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [each for each in heard if each != "5 again"] == list(range(9))

    run(main)


def test_what_is_left_behind_one_that_suspends_begins_in_the_turn_after(run):
    async def main():
        begun = []

        async def wait(number):
            begun.append(number)
            await opened.wait()

        opened = asyncio.Event()
        for number in range(50):
            Run(wait(number))
        await asyncio.sleep(0)
        assert begun == [0]
        await asyncio.sleep(0)
        assert begun == list(range(50))
        opened.set()

    run(main)


def test_a_task_is_used_again(run):
    async def main():
        async def identity():
            seen.append(id(asyncio.current_task()))

        async def suspended():
            await identity()
            await asyncio.sleep(0)
            await identity()

        seen: list[int] = []
        for _ in range(5):
            Run(identity())
            await ended(suspended())
        assert len(set(seen)) == 1

    run(main)


def test_coroutines_that_overlap_have_tasks_of_their_own(run):
    async def main():
        tasks = set()

        async def work():
            first = asyncio.current_task()
            tasks.add(first)
            await asyncio.sleep(0)
            assert asyncio.current_task() is first
            await asyncio.sleep(0)
            assert asyncio.current_task() is first

        caller = asyncio.current_task()
        await asyncio.gather(*(ended(work()) for _ in range(20)))
        assert len(tasks) == 20
        assert caller not in tasks
        assert asyncio.current_task() is caller

    run(main)


def test_one_that_is_made_by_another_has_another_task(run):
    async def main():
        heard = []

        async def inner():
            heard.append(("inner", asyncio.current_task()))

        async def outer():
            heard.append(("outer", asyncio.current_task()))
            await ended(inner())
            heard.append(("outer", asyncio.current_task()))

        await ended(outer())
        assert [name for name, _ in heard] == ["outer", "inner", "outer"]
        assert heard[0][1] is heard[2][1] is not heard[1][1]

    run(main)


def test_a_variable_that_is_set_is_not_seen_by_the_next(run):
    async def main():
        variable.set("the caller's")
        await ended(nothing())
        seen = []

        async def change(value):
            seen.append(variable.get())
            variable.set(value)

        async def change_and_suspend(value):
            await change(value)
            await asyncio.sleep(0)
            seen.append(variable.get())
            variable.set(f"{value} again")

        for number in range(3):
            await ended(change(number))
            await ended(change_and_suspend(f"{number}b"))
        assert seen == [each for number in range(3) for each in ["the caller's", "the caller's", f"{number}b"]]
        assert variable.get() == "the caller's"

    run(main)


def test_values_that_cannot_be_compared_count_as_changed(run):
    class Odd:
        def __eq__(self, other):
            raise ValueError("not comparable")

        __hash__ = None

    async def main():
        variable.set(Odd())
        await ended(nothing())
        seen = []

        async def change():
            seen.append(variable.get())
            variable.set(Odd())

        await ended(change())
        await ended(change())
        assert seen == [variable.get()] * 2 or all(each is variable.get() for each in seen)

    run(main)


def test_a_value_that_equals_the_callers_is_not_seen_by_the_next(run):
    async def main():
        variable.set({})
        await ended(nothing())
        seen = []

        async def change():
            seen.append(variable.get())
            variable.set({})  # and something that goes on would fill it later

        await ended(change())
        await ended(change())
        assert all(each is variable.get() for each in seen)

    run(main)


def test_a_token_resets_its_variable_after_a_suspension(run):
    async def main():
        async def work():
            token = variable.set("mine")
            await asyncio.sleep(0)
            assert variable.get() == "mine"
            variable.reset(token)
            assert variable.get() == "unset"
            heard.append("reset")

        heard = []
        await ended(work())
        await ended(work())
        assert heard == ["reset", "reset"]

    run(main)


@pytest.mark.parametrize("delay_s", [0, 0.001])
def test_time_outs_of_asyncio_and_anyio_end_what_they_are_around(run, delay_s):
    async def main():
        heard = []

        async def with_asyncio():
            try:
                async with asyncio.timeout(delay_s):
                    await asyncio.Event().wait()
            except TimeoutError:
                heard.append(asyncio.current_task().cancelling())

        async def with_anyio():
            try:
                with anyio.fail_after(delay_s):
                    await anyio.Event().wait()
            except TimeoutError:
                heard.append(asyncio.current_task().cancelling())

        for _ in range(3):
            await ended(with_asyncio())
            await ended(with_anyio())
        assert heard == [0] * 6

    run(main)


def test_task_groups_wait_for_their_children_and_are_cancelled_with_them(run):
    async def main():
        heard = []

        async def child(name):
            await asyncio.sleep(0)
            heard.append(name)

        async def with_anyio():
            async with anyio.create_task_group() as group:
                group.start_soon(child, "anyio")
                group.start_soon(child, "anyio")

        async def with_asyncio():
            async with asyncio.TaskGroup() as group:
                group.create_task(child("asyncio"))

        async def cancelled():
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep_forever)
                group.cancel_scope.cancel()
            heard.append("cancelled")

        async def failing():
            async def fail():
                raise KeyError("child")

            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(fail())
                    await asyncio.Event().wait()
            except* KeyError:
                heard.append("failed")

        for _ in range(2):
            for each in (with_anyio, with_asyncio, cancelled, failing):
                await ended(each())
        assert heard == ["anyio", "anyio", "asyncio", "cancelled", "failed"] * 2

    run(main)


def test_one_that_is_cancelled_before_it_begins_never_does(run):
    async def main():
        begun = []

        async def begin(number):
            begun.append(number)

        runs = [Run(begin(number)) for number in range(3)]
        runs[1].cancel()
        runs[1].cancel()
        await ended(nothing())
        assert begun == [0, 2]
        runs[0].cancel()
        await ended(nothing())

    run(main)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_one_that_is_cancelled_cancels_what_it_waits_for(run, turns):
    async def main():
        heard = []

        async def wait():
            try:
                await waited_for
            except asyncio.CancelledError:
                heard.append(waited_for.cancelled())
                raise

        waited_for = asyncio.get_running_loop().create_future()
        waiting = Run(wait())
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting.cancel()
        await ended(nothing())
        await ended(nothing())
        assert heard == [True]

    run(main)


def test_a_task_that_was_cancelled_runs_no_other(run):
    async def main():
        first = []

        async def swallow():
            task = asyncio.current_task()
            first.append(id(task))
            task.cancel()
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                first.append(task.cancelling())

        async def cancel_and_end():
            asyncio.current_task().cancel()

        async def look():
            await asyncio.sleep(0)
            counts.append(asyncio.current_task().cancelling())

        counts = []
        for _ in range(3):
            await ended(swallow())
            await ended(look())
            Run(cancel_and_end())
            await ended(look())
        assert first[1::2] == [1, 1, 1]
        assert counts == [0] * 6

    run(main)


def test_a_task_that_somebody_keeps_runs_no_other(run):
    async def main():
        kept, told = [], []

        async def keep():
            kept.append(asyncio.current_task())

        async def keep_and_suspend():
            await asyncio.sleep(0)
            kept.append(asyncio.current_task())

        async def ask():
            asyncio.current_task().add_done_callback(lambda task: told.append(task.cancelled()))

        for work in (keep, keep_and_suspend, ask) * 2:
            Run(work())
            await ended(nothing())
        assert len(set(kept)) == 4
        await asyncio.sleep(0)
        await ended(nothing())
        await asyncio.sleep(0)
        assert told == [False, False]
        assert all(task.done() for task in kept)

    run(main)


def test_a_cancellation_that_was_taken_back_reaches_no_other(run):
    async def main():
        heard = []

        async def take_back():
            task = asyncio.current_task()
            task.cancel()
            task.uncancel()

        async def suspend():
            await asyncio.sleep(0)
            heard.append("went on")

        for _ in range(3):
            Run(take_back())
            await ended(suspend())
        assert heard == ["went on"] * 3

    run(main)


def test_an_error_goes_to_the_exception_handler_of_the_loop_and_stops_no_other(run):
    async def main():
        async def fail():
            raise KeyError("failed")

        told = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
        for _ in range(3):
            Run(fail())
        await ended(nothing())
        gc.collect()
        assert [repr(error) for error in told] == ["KeyError('failed')"] * 3

    run(main)


def test_the_task_factory_of_the_loop_makes_no_difference(run):
    def refuse(loop, coroutine, **how):
        coroutine.close()
        raise AssertionError("asked")

    async def main():
        heard = []

        async def append(number):
            heard.append(number)
            await asyncio.sleep(0)

        for factory in (refuse, getattr(asyncio, "eager_task_factory", refuse)):
            asyncio.get_running_loop().set_task_factory(factory)
            for number in range(5):
                Run(append(number))
            await ended(nothing())
        asyncio.get_running_loop().set_task_factory(None)
        assert heard == [0, 1, 2, 3, 4] * 2

    run(main)


def test_a_system_exit_ends_the_loop(run):
    async def main():
        async def leave():
            sys.exit(3)

        Run(leave())
        await asyncio.Event().wait()

    with pytest.raises(SystemExit, match="3"):
        run(main)


def test_no_more_tasks_wait_for_work_than_may(run):
    async def main():
        async def wait():
            await opened.wait()

        opened = asyncio.Event()
        for _ in range(IDLE_LIMIT * 2):
            Run(wait())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) > IDLE_LIMIT * 2
        opened.set()
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) <= IDLE_LIMIT + 1

    run(main)
