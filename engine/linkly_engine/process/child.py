"""A worker in a process of its own: installed, started, watched, replaced without a gap, started again after a crash.

One task does all of it, one thing after another:

* A new generation is started beside the old one (`starting.py`). Once it has connected and said all it serves, it takes
  over in one turn of the loop (`arrival.py`); the old one finishes its calls (10 s at most) and is ended. One that ends
  before that leaves the old one in service, and the reason is said.
* A program that never connects may be a worker all the same (something that only listens, say): it counts as running
  after 10 s. Two of its generations never run at once, nor do those of a program whose new generation finds an
  address in use.
* A program that ends is started again, later each time (`backoff.py`), up to 8 times in a row. Then, as after a
  failed installation, with a broken manifest or what cannot heal (`hopeless.py`), it waits for a change or `restart`.

`status.py` lists the states and what may follow each. This room knows the tables and the connections, neither the
engine's lifetimes nor config.yaml.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any

from linkly.clock import Clock, time_limit
from linkly_engine.process.backoff import GIVE_UP_AFTER, Backoff
from linkly_engine.process.ending import explain
from linkly_engine.process.generation import Generation
from linkly_engine.process.program import KILL_AFTER_S
from linkly_engine.process.starting import NotReady, Starter, Superseded, first_of
from linkly_engine.process.status import ChildStatus, State
from linkly_engine.process.watch import Changes, Watch

log = logging.getLogger("linkly.process")

STOP_DRAIN_S = 5.0
ADDRESS_IN_USE = ("eaddrinuse", "address already in use", "address in use")


class ChildWorker:
    """One supervised worker.

    Args:
        clock: What the waits between two attempts go by.
        starter: Starts its generations.

    Attributes:
        name: In config.yaml.
        starter: As given.
        output: What its programs write, of all its generations.
        generation: What serves now.
        status: How it is.
    """

    def __init__(self, clock: Clock, starter: Starter) -> None:
        self.name = starter.name
        self.starter = starter
        self.output = starter.output
        self.generation: Generation | None = None
        self._clock = clock
        self._folder = starter.folder
        self._change = starter.change
        self._backoff = Backoff()
        self.status = ChildStatus()
        self._retiring: set[asyncio.Task[None]] = set()
        self._one_at_a_time = False
        self._watches_itself = False
        self._watch: Watch | None = None
        self._task: asyncio.Task[None] | None = None

    # --- from outside --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to supervise it in the background; nothing happens if that is so already."""
        if self._task is None or self._task.done():
            self.status.open = True
            self.status.enter(State.STARTING)
            self._task = asyncio.get_running_loop().create_task(self._supervise(), name=f"worker {self.name}")

    async def stop(self) -> None:
        """Let the calls that it serves finish (for at most 5 s) and end all its processes."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        self._change.clear()
        self._end_in(State.STOPPED)

    async def restart(self) -> None:
        """Replace it by a new generation, or try again what failed; return when that has been tried once."""
        if self._task is None or self._task.done():
            await self.start()
        else:
            self._request()
        await self.status.tried()

    async def watching(self) -> None:
        """Wait until changes of its files are noticed."""
        if self._watch is not None:
            await self._watch.armed()

    # --- the one task --------------------------------------------------------------------------------------

    async def _supervise(self) -> None:
        self._watch = Watch(self._folder, self._files_changed, ignore=self.output.folder)
        try:
            while True:
                await self._turn()
        except Exception as error:
            log.exception("worker `%s`: its supervision failed", self.name)
            self._change.clear()
            self._end_in(State.FAILED, reason=f"the engine could not look after it: {error}")
        finally:
            await self._end_everything()

    async def _turn(self) -> None:
        """Bring a generation into service, and wait until it ends or another one is wanted."""
        try:
            generation = await self._bring_up()
        except Superseded:
            return
        except NotReady as failure:
            await self._not_ready(failure)
            return
        await first_of(generation.program.exited.wait(), self._change.wait())
        if generation.program.exited.is_set():
            await self._ended(generation)

    async def _not_ready(self, failure: NotReady) -> None:
        current = self.generation
        if current is None:
            await self._try_again(failure.reason, None if failure.lasting else failure.uptime_s)
            return
        if any(sign in failure.reason.lower() for sign in ADDRESS_IN_USE) and not self._one_at_a_time:
            log.info("worker `%s`: its next generation needs an address of this one: one ends first", self.name)
            self._one_at_a_time = True
            return
        log.error("worker `%s`: its next generation %s; this one stays in service", self.name, failure.reason)
        self._serves(current, reason=f"its next generation {failure.reason}")
        await first_of(current.program.exited.wait(), self._change.wait())
        if current.program.exited.is_set():
            await self._ended(current)

    async def _ended(self, generation: Generation) -> None:
        """A program has ended by itself: start it again, later."""
        self.generation = None
        self.status.open = True
        uptime_s = generation.uptime_s
        await generation.end()
        await self._try_again(explain(generation.program), uptime_s)

    async def _try_again(self, reason: str, uptime_s: float | None) -> None:
        """Wait until it is time to try again: a while, or for a change if that is all that can help."""
        if self._watch is not None:
            await asyncio.to_thread(self._watch.remember)
        wait_s = self._backoff.ended(uptime_s) if uptime_s is not None else None
        if wait_s is not None:
            log.warning("worker `%s` %s; it is started again in %g s", self.name, reason, wait_s)
            self._end_in(State.WAITING, reason=reason)
            await first_of(self._clock.sleep(wait_s), self._change.wait())
        else:
            if uptime_s is not None:
                reason = f"{reason}; that was the {GIVE_UP_AFTER}th time in a row"
            again = f"when a file in {self._folder} changes, or with `linkly worker restart {self.name}`"
            reason = f"{reason}; it is tried again {again}"
            log.error("worker `%s` %s", self.name, reason)
            self._end_in(State.FAILED, reason=reason)
            await self._change.wait()

    async def _bring_up(self) -> Generation:
        """Install, start and wait until it serves.

        Raises:
            NotReady: It does not come to serve.
            Superseded: A change came in between.
        """
        self._change.clear()
        manifest, variables = await self.starter.prepare(self._enter_unless_one_serves)
        self._watches_itself = manifest.watches_itself
        before = self.generation
        if before is not None and (self._one_at_a_time or not before.peers):
            self.generation = None
            await self._retire(before)
            before = None
        self._change.clear()  # whatever has changed so far is in what is started now
        self._enter_unless_one_serves(State.STARTING)
        generation = self.starter.spawn(manifest, variables)
        self.status.restarts = self.starter.started - 1
        self._enter_unless_one_serves(State.STARTING, pid=generation.program.pid)
        try:
            await self.starter.until_ready(generation, before)
            problem = generation.enter(before)
        except BaseException:
            await generation.end()
            raise
        self.generation = generation
        self._serves(generation, reason=problem)
        if before is not None:
            self._retire_later(before)
        return generation

    # --- ending --------------------------------------------------------------------------------------------

    def _retire_later(self, generation: Generation) -> None:
        task = asyncio.get_running_loop().create_task(self._retire(generation), name=f"worker {self.name} retires")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _retire(self, generation: Generation) -> None:
        try:
            generation.retire()
            await generation.drain()
        finally:
            await generation.end()
            log.info("worker `%s`: process %d has been replaced", self.name, generation.program.pid)

    async def _end_everything(self) -> None:
        ending = set(self._retiring)
        current, self.generation = self.generation, None
        if current is not None:
            ending.add(asyncio.get_running_loop().create_task(current.leave(STOP_DRAIN_S)))
        if ending:
            try:
                with suppress(TimeoutError):
                    async with time_limit(self._clock, STOP_DRAIN_S + KILL_AFTER_S):
                        await asyncio.wait(ending)
            finally:
                for task in ending:
                    task.cancel()
                await asyncio.wait(ending)
        if self._watch is not None:
            await self._watch.stop()
            self._watch = None
        self.output.close()

    # --- what is wanted, how it is -------------------------------------------------------------------------

    def _files_changed(self, changes: Changes) -> None:
        # A worker that does not run is started again after any change but those that it made itself before it ended:
        # an installation that leaves a file behind and fails would be repeated for ever.
        idle = self.status.state in (State.WAITING, State.FAILED)
        if idle and self._watch is not None and not (changes := self._watch.news(changes)):
            log.debug("worker `%s`: nothing has changed since it ended", self.name)
            return
        # While it is installed or started, the change is often the lock file that its own installation wrote.
        if not idle and not (changes.dependencies and self.starter.installer.needed()):
            if not changes.sources:
                return
            if self._watches_itself:
                log.debug("worker `%s`: %s changed: left to its start command", self.name, changes)
                return
        log.info("worker `%s`: %s changed", self.name, changes)
        self._request()

    def _request(self) -> None:
        self._backoff.reset()
        self.status.open = True
        self._change.set()

    def _serves(self, generation: Generation, *, reason: str | None) -> None:
        self._end_in(State.RUNNING, reason=reason, pid=generation.program.pid, started_at_ms=generation.started_at_ms)

    def _end_in(self, state: State, **fields: Any) -> None:
        """Enter the state that an attempt ends in; who waits is told, unless another attempt is wanted by now."""
        self.status.enter(state, **fields)
        if not self._change.is_set():
            self.status.end()

    def _enter_unless_one_serves(self, state: State, pid: int | None = None) -> None:
        """Enter a state on the way to a generation that serves, where the one before does not serve on."""
        if self.generation is None:
            self.status.enter(state, pid=pid)
