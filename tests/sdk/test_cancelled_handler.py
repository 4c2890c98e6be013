"""A handler that ends with what is no `Exception`: every call ends, and nobody else is cancelled by it."""

import asyncio
import gc

import pytest

from linkly import Invocation, LinklyError, Worker, function
from linkly.errors import CallTimeout, HandlerFailed
from linkly.function import Function
from linkly.testing import ManualClock, running_engine, settle

WAIT_S = 30


class Quitter(Worker):
    """Raises CancelledError in several ways."""

    name = "quitter"

    def __init__(self):
        super().__init__()
        self.end = asyncio.Event()

    @function("quitter::raise")
    async def raises(self) -> None:
        """Raise it, as it is."""
        raise asyncio.CancelledError

    @function("quitter::wait")
    async def waits(self) -> None:
        """Wait for something that somebody else cancels."""
        task = asyncio.ensure_future(asyncio.Event().wait())
        asyncio.get_running_loop().call_soon(task.cancel)
        await task

    @function("quitter::nested")
    async def nested(self) -> None:
        """Call a function that raises it."""
        await self.bus.trigger("quitter::raise")

    @function("quitter::thread")
    def in_thread(self) -> None:
        """Raise it in a thread."""
        raise asyncio.CancelledError

    @function("quitter::itself")
    async def itself(self) -> None:
        """Cancel the task it runs in."""
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    @function("quitter::beyond")
    async def beyond(self) -> None:
        """Raise what is no `Exception`."""
        raise BaseExceptionGroup("beyond", [asyncio.CancelledError()])

    @function("quitter::exit")
    async def exits(self) -> None:
        """Raise what the interpreter raises in coroutines that it closes."""
        raise GeneratorExit

    @function("quitter::endless")
    async def endless(self) -> None:
        """Wait until the test is over: a JSON client cannot cancel, and a worker's end waits for its handlers."""
        await self.end.wait()


class Suspended:
    """Waits for ever, without a loop."""

    def __await__(self):
        yield


@pytest.fixture(params=["in process", "native wire", "json wire"])
def options(request):
    """How the worker is reached."""
    return {"wire": request.param != "in process", "native": request.param != "json wire"}


@pytest.mark.parametrize("name", ["raise", "wait", "nested", "thread"])
async def test_a_handler_that_raises_cancelled_error_unasked_has_failed(options, name):
    async with running_engine(Quitter(), **options) as bus:
        with pytest.raises(HandlerFailed, match="CancelledError although nobody cancelled the call"):
            async with asyncio.timeout(WAIT_S):
                await bus.trigger(f"quitter::{name}")
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0


@pytest.mark.parametrize("native", [True, False])
async def test_a_handler_that_cancels_its_own_task_is_answered_over_the_wire(native):
    async with running_engine(Quitter(), wire=True, native=native) as bus:
        with pytest.raises(LinklyError, match="a cancellation that its caller did not ask for"):
            async with asyncio.timeout(WAIT_S):
                await bus.trigger("quitter::itself")


@pytest.mark.parametrize("native", [True, False])
async def test_a_handler_that_raises_what_is_no_exception_is_answered_over_the_wire(native):
    told = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.set_result(context["exception"]))
    async with running_engine(Quitter(), wire=True, native=native) as bus:
        with pytest.raises(HandlerFailed, match="beyond"):
            async with asyncio.timeout(WAIT_S):
                await bus.trigger("quitter::beyond")
        gc.collect()
        assert type(await told) is BaseExceptionGroup


async def test_a_handler_that_raises_generator_exit_has_failed(options):
    async with running_engine(Quitter(), **options) as bus:
        with pytest.raises(HandlerFailed, match="GeneratorExit"):
            async with asyncio.timeout(WAIT_S):
                await bus.trigger("quitter::exit")


def test_a_call_that_is_closed_ends_without_an_answer():
    ends = []

    async def endless() -> None:
        try:
            await Suspended()
        finally:
            ends.append("handler")

    called = Function("quitter::endless", endless)
    called.failed = lambda invocation, failure: ends.append(failure)
    call = called(Invocation(function_id=called.id))
    call.send(None)
    call.close()
    assert ends == ["handler"]
    assert called.active == 0


async def test_a_call_with_a_time_limit_that_is_closed_ends_without_an_answer():
    ends = []

    async def endless() -> None:
        try:
            await Suspended()
        finally:
            ends.append("handler")

    async with running_engine() as bus:
        called = Function("quitter::endless", endless)
        bus.register_function(called)
        called.failed = lambda invocation, failure: ends.append(failure)
        call = bus.trigger(called.id, timeout_s=1)
        call.send(None)
        call.close()
        assert ends == ["handler"]
        assert called.active == 0


async def test_a_cancelled_caller_is_cancelled(options):
    quitter = Quitter()
    async with running_engine(quitter, **options) as bus:
        call = asyncio.ensure_future(bus.trigger("quitter::endless"))
        await settle()
        call.cancel()
        await asyncio.wait([call], timeout=WAIT_S)
        assert call.cancelled()
        quitter.end.set()


async def test_a_call_that_takes_too_long_is_no_failure_of_its_handler(options):
    clock = ManualClock()
    quitter = Quitter()
    async with running_engine(quitter, clock=clock, **options) as bus:
        call = asyncio.ensure_future(bus.trigger("quitter::endless", timeout_s=5))
        await settle()
        await clock.advance(5.1)
        with pytest.raises(CallTimeout):
            async with asyncio.timeout(WAIT_S):
                await call
        quitter.end.set()


async def test_a_callers_own_time_limit_is_its_own(options):
    quitter = Quitter()
    async with running_engine(quitter, **options) as bus:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await bus.trigger("quitter::endless")
        quitter.end.set()
