"""Two engines whose state is in one PostgreSQL: nothing is lost, and one of them is killed."""

import asyncio
import contextlib
import os
import signal

from linkly import Client, LinklyError
from linkly import state as state_trigger
from linkly.function import Function
from support.engine_process import EngineProcess

WAIT_S = 60
CALLERS = 8
ANSWERS = 400
OPS = [{"type": "increment", "path": "n", "by": 1}]
KEYS = ("hot", "hot", "hot", "a", "b", "c")


@contextlib.asynccontextmanager
async def two_engines(url, tmp_path, reserve_port):
    """Start two engines at once whose state is in one empty database."""
    with contextlib.ExitStack() as stack:
        engines = []
        for name in ("one", "other"):
            folder = tmp_path / name
            folder.mkdir()
            (folder / "config.yaml").write_text(
                "workers:\n"
                f"  - name: iii-worker-manager\n    config: {{port: {reserve_port()}}}\n"
                "  - name: state\n    config: {adapter: {name: database, config: {db: values}}}\n"
                f"  - name: database\n    config: {{databases: {{values: {{url: '{url}'}}}}}}\n"
            )
            engines.append(EngineProcess(folder))
            stack.callback(engines[-1].kill)
        await asyncio.gather(*(asyncio.to_thread(engine.start) for engine in engines))
        yield engines


class Tally:
    """How many increments of a key were asked for, and how many answered."""

    def __init__(self):
        self.asked = dict.fromkeys(KEYS, 0)
        self.answered = dict.fromkeys(KEYS, 0)
        self.goal = 0
        self.reached = asyncio.Event()

    async def more(self, count):
        """Return when so many more were answered."""
        self.goal = sum(self.answered.values()) + count
        self.reached.clear()
        async with asyncio.timeout(WAIT_S):
            await self.reached.wait()

    async def count(self, bus, number):
        """Increment one key again and again, until the engine is gone."""
        key = KEYS[number % len(KEYS)]
        while True:
            self.asked[key] += 1
            answer = await bus.trigger("state::update", {"scope": "s", "key": key, "ops": OPS})
            assert answer["new_value"]["n"] == 1 + (answer["old_value"] or {"n": 0})["n"]
            self.answered[key] += 1
            if sum(self.answered.values()) >= self.goal:
                self.reached.set()


async def test_what_two_engines_count_is_exact_while_one_of_them_is_killed(postgres_url, tmp_path, reserve_port):
    async with two_engines(postgres_url, tmp_path, reserve_port) as (one, other):
        tally = Tally()
        async with Client(one.url, name="one") as first, Client(other.url, name="other") as second:
            callers = [
                asyncio.create_task(tally.count(bus, number)) for bus in (first, second) for number in range(CALLERS)
            ]
            await tally.more(ANSWERS)
            os.kill(one.pid, signal.SIGKILL)
            await asyncio.to_thread(one.end, signal.SIGKILL)
            await tally.more(ANSWERS)  # of the other, which nothing keeps from writing
            for caller in callers:
                caller.cancel()
            ended = await asyncio.gather(*callers, return_exceptions=True)
            assert all(isinstance(each, (LinklyError, asyncio.CancelledError)) for each in ended), ended
            values = {
                entry["key"]: entry["value"]["n"]
                for entry in (await second.trigger("state::list_entries", {"scope": "s"}))["entries"]
            }
        assert set(values) == set(KEYS)
        for key, value in values.items():
            assert tally.answered[key] <= value <= tally.asked[key]


async def test_an_engine_reads_what_the_other_wrote_and_tells_its_own_writes_only(postgres_url, tmp_path, reserve_port):
    async with (
        two_engines(postgres_url, tmp_path, reserve_port) as (one, other),
        Client(one.url, name="one") as first,
        Client(other.url, name="other") as second,
    ):
        told = asyncio.Queue()

        async def note(event):
            told.put_nowait(event["new_value"])

        first.register_function(Function("test::note", note))
        first.register_trigger("test::note", state_trigger(scope="s"))
        await first.trigger("engine::workers::list")  # answered after the registrations
        for number in range(5):
            await second.trigger("state::set", {"scope": "s", "key": "k", "value": number})
            assert await first.trigger("state::get", {"scope": "s", "key": "k"}) == number
        await first.trigger("state::set", {"scope": "s", "key": "k", "value": "own"})
        assert await asyncio.wait_for(told.get(), WAIT_S) == "own"
