"""A worker in a process of its own: installed, started, watched, replaced without a gap, started again after a crash.

One task does all of it, one thing after another:

* A new generation is started beside the old one. Once it has connected and said all it serves, it takes over in one
  turn of the loop (`arrival.py`); the old one finishes its calls (10 s at most) and is ended. One that ends before
  that leaves the old one in service, and the reason is said.
* A program that never connects may be a worker all the same (something that only listens, say): it counts as running
  after 10 s. Two of its generations never run at once, nor do those of a program whose new generation finds an
  address in use.
* A program that ends is started again, later each time (`backoff.py`), up to 8 times in a row. Then, as after a
  failed installation, with a broken manifest or what cannot heal (`hopeless.py`), it takes a change, or `restart`.

It knows the engine by its tables only, and config.yaml not at all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linkly.errors import ConfigError
from linkly_engine.process.backoff import GIVE_UP_AFTER, Backoff
from linkly_engine.process.environment import environment
from linkly_engine.process.generation import Generation, NotReady, Superseded, first_of
from linkly_engine.process.guard import Guard
from linkly_engine.process.installer import Installer, InstallFailed
from linkly_engine.process.manifest import Manifest, read_manifest
from linkly_engine.process.output import Feed, Output
from linkly_engine.process.program import KILL_AFTER_S, Program
from linkly_engine.process.status import ChildStatus, State, StatusKeeper
from linkly_engine.process.watch import Changes, Watch

if TYPE_CHECKING:
    from linkly_engine.engine import Engine

log = logging.getLogger("linkly.process")

PLAIN_S = 10.0
CONNECT_S = 60.0
"""How long the next generation of a connected worker may take to connect."""

STOP_DRAIN_S = 5.0
ADDRESS_IN_USE = ("eaddrinuse", "address already in use", "address in use")


class ChildWorker:
    """One supervised worker.

    Args:
        engine: Where it registers.
        name: In config.yaml.
        folder: Where its manifest and its sources are.
        url: Of the worker port, asked at each start.
        logs: Folder of its log files, `PROJECT/.linkly/logs/NAME`; what was installed is noted beside it, in
            `PROJECT/.linkly/installed/NAME`.
        config: Its `config:` block; the program finds it as JSON in LINKLY_WORKER_CONFIG.
        config_path: The config file.
        guard: Ends it if the engine is killed.

    Attributes:
        logs: Folder of its log files.
        config: May be set; the next generation sees it.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        name: str,
        folder: Path,
        url: Callable[[], str],
        logs: Path,
        config: Any = None,
        config_path: Path | None = None,
        guard: Guard,
    ) -> None:
        self.name = name
        self.folder = folder
        self.logs = logs
        self.config = config
        self._engine = engine
        self._url = url
        self._config_path = config_path
        self._guard = guard
        self._output = Output(name, logs)
        note = logs.parent.parent / "installed" / name
        self._installer = Installer(name, folder, note=note, output=self._output, guard=guard)
        self._backoff = Backoff()
        self._keeper = StatusKeeper()
        self._current: Generation | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._spawned = 0
        self._exclusive = False
        self._watches_itself = False
        self._watch: Watch | None = None
        self._change = asyncio.Event()
        self._settled = asyncio.Event()
        self._tried = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # --- from outside --------------------------------------------------------------------------------------

    @property
    def status(self) -> ChildStatus:
        """How it is now."""
        return self._keeper.status

    @property
    def generation(self) -> Generation | None:
        """What serves now."""
        return self._current

    async def start(self) -> None:
        """Begin to look after it, in the background; nothing happens if that is so already."""
        if self._task is None or self._task.done():
            self._begin_anew()
            self._set("starting")
            self._task = asyncio.get_running_loop().create_task(self._supervise(), name=f"worker {self.name}")

    async def stop(self) -> None:
        """Finish the calls it serves (for at most 5 s) and end it; nothing of it is left."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        self._change.clear()
        self._set("stopped")
        self._outcome()

    async def restart(self) -> None:
        """Replace it by a new generation, or try again what failed; return when that has been tried once."""
        if self._task is None or self._task.done():
            await self.start()
        else:
            self._request()
        await self._tried.wait()

    async def settled(self) -> None:
        """Wait until it runs (connected and registered), has failed for good or is stopped."""
        await self._settled.wait()

    async def reaches(self, *states: State) -> ChildStatus:
        """Wait until it is in one of these states; unlike `settled`, also in one that does not last."""
        return await self._keeper.reaches(*states)

    async def watching(self) -> None:
        """Wait until changes of its files are noticed."""
        if self._watch is not None:
            await self._watch.armed()

    def tail(self, count: int) -> tuple[list[str], list[str]]:
        """Return the last lines it wrote to stdout and to stderr."""
        return self._output.tail(count)

    # --- the one task --------------------------------------------------------------------------------------

    async def _supervise(self) -> None:
        self._watch = Watch(self.folder, self._files_changed, ignore=self._output.folder)
        try:
            while True:
                await self._turn()
        except Exception as error:
            log.exception("worker `%s`: its supervision failed", self.name)
            self._set("failed", reason=f"the engine could not look after it: {error}")
            self._change.clear()
            self._outcome()
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
        current = self._current
        if current is None:
            await self._try_again(failure.reason, None if failure.lasting else failure.uptime_s)
            return
        if any(sign in failure.reason.lower() for sign in ADDRESS_IN_USE) and not self._exclusive:
            log.info("worker `%s`: its next generation needs an address of this one: one ends first", self.name)
            self._exclusive = True
            return
        log.error("worker `%s`: its next generation %s; this one stays in service", self.name, failure.reason)
        self._serves(current, reason=f"its next generation {failure.reason}")
        await first_of(current.program.exited.wait(), self._change.wait())
        if current.program.exited.is_set():
            await self._ended(current)

    async def _ended(self, generation: Generation) -> None:
        """A program has ended by itself: start it again, later."""
        self._current = None
        self._settled.clear()
        uptime_s = generation.uptime_s
        await generation.end()
        await self._try_again(generation.why_it_ended(), uptime_s)

    async def _try_again(self, reason: str, uptime_s: float | None) -> None:
        """Wait until it is time to try again: a while, or for a change if that is all that can help."""
        if self._watch is not None:
            await asyncio.to_thread(self._watch.remember)
        wait_s = self._backoff.ended(uptime_s) if uptime_s is not None else None
        if wait_s is not None:
            log.warning("worker `%s` %s; it is started again in %g s", self.name, reason, wait_s)
            self._set("waiting", reason=reason)
            self._outcome(lasting=False)
            await first_of(self._engine.clock.sleep(wait_s), self._change.wait())
        else:
            if uptime_s is not None:
                reason = f"{reason}; that was the {GIVE_UP_AFTER}th time in a row"
            again = f"when a file in {self.folder} changes, or with `linkly worker restart {self.name}`"
            reason = f"{reason}; it is tried again {again}"
            log.error("worker `%s` %s", self.name, reason)
            self._set("failed", reason=reason)
            self._outcome()
            await self._change.wait()

    # --- bringing a generation up --------------------------------------------------------------------------

    async def _bring_up(self) -> Generation:
        """Install, start and wait until it serves.

        Raises:
            NotReady: It does not come to serve.
            Superseded: A change came in between.
        """
        self._change.clear()
        try:
            manifest = read_manifest(self.folder)
        except ConfigError as error:
            raise NotReady(f"cannot start: {error.message}", lasting=True) from error
        variables = environment(
            manifest, name=self.name, url=self._url(), config=self.config, config_path=self._config_path
        )
        await self._install(manifest, variables)
        before = self._current
        if before is not None and (self._exclusive or not before.peers):
            self._current = None
            await self._retire(before)
            before = None
        self._change.clear()  # whatever has changed so far is in what is started now
        generation = self._spawn(manifest, variables)
        try:
            await self._until_ready(generation, before)
            problem = generation.enter(before)
        except BaseException:
            await generation.end()
            raise
        self._current = generation
        self._serves(generation, reason=problem)
        if before is not None:
            self._retire_later(before)
        return generation

    async def _install(self, manifest: Manifest, variables: dict[str, str]) -> None:
        if not self._installer.needed():
            return
        if self._current is None:
            self._set("installing")
        try:
            await self._installer.run(manifest, variables)
        except InstallFailed as error:
            if not error.outdated:
                self._change.clear()  # what was reported meanwhile is what the scripts wrote
            raise NotReady(f"cannot be installed: {error.message}", lasting=True) from error

    def _spawn(self, manifest: Manifest, variables: dict[str, str]) -> Generation:
        self._watches_itself = manifest.watch == "self"
        if self._current is None:
            self._set("starting")
        try:
            program = Program.start(
                manifest.start,
                folder=self.folder,
                environment=variables,
                feed=Feed(self._output),
                guard=self._guard,
            )
        except OSError as error:
            raise NotReady(f"cannot be started: {error}") from error
        self._keeper.change(restarts=self._spawned)
        self._spawned += 1
        if self._current is None:
            self._keeper.change(pid=program.pid)
        log.info("worker `%s`: started as process %d: %s", self.name, program.pid, manifest.start)
        return Generation(self._engine, self.name, program)

    async def _until_ready(self, generation: Generation, before: Generation | None) -> None:
        limit_s = PLAIN_S if before is None else CONNECT_S
        needed = before.functions if before is not None else set[str]()
        arrival = generation.arrival
        if await self._happens(arrival.came(), generation, limit_s) and await self._happens(
            arrival.complete(needed), generation, CONNECT_S
        ):
            return
        if before is not None:
            raise NotReady(f"has not connected within {limit_s:g} s")

    async def _happens(self, waiting: Awaitable[object], generation: Generation, limit_s: float) -> bool:
        """Wait for something while a generation is being started; return false when the time is over."""
        exited = generation.program.exited
        sleep = self._engine.clock.sleep(limit_s)
        done = await first_of(waiting, exited.wait(), self._change.wait(), sleep)
        if exited.is_set():
            await generation.end()
            raise NotReady(generation.why_it_ended(), lasting=generation.hopeless, uptime_s=generation.uptime_s)
        if self._change.is_set():
            raise Superseded
        return 0 in done

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
        current, self._current = self._current, None
        if current is not None:
            ending.add(asyncio.get_running_loop().create_task(current.leave(STOP_DRAIN_S)))
        if ending:
            try:
                await asyncio.wait(ending, timeout=STOP_DRAIN_S + KILL_AFTER_S)
            finally:
                for task in ending:
                    task.cancel()
                await asyncio.wait(ending)
        if self._watch is not None:
            await self._watch.stop()
            self._watch = None
        self._output.close()

    # --- what is wanted, how it is -------------------------------------------------------------------------

    def _files_changed(self, changes: Changes) -> None:
        # A worker that does not run is tried again whatever has changed, but for what it wrote itself before it ended:
        # an installation that leaves a file behind and fails would be tried for ever.
        idle = self.status.state in ("waiting", "failed")
        if idle and self._watch is not None and not (changes := self._watch.news(changes)):
            log.debug("worker `%s`: nothing has changed since it ended", self.name)
            return
        # While one is installed or started, what is reported is often the lock file that its own installation wrote.
        if idle or (changes.dependencies and self._installer.needed()):
            pass
        elif not changes.sources:
            return
        elif self._watches_itself:
            log.debug("worker `%s`: %s changed: left to its start command", self.name, changes)
            return
        log.info("worker `%s`: %s changed", self.name, changes)
        self._request()

    def _request(self) -> None:
        self._backoff.reset()
        self._begin_anew()
        self._change.set()

    def _begin_anew(self) -> None:
        self._settled.clear()
        self._tried.clear()

    def _outcome(self, *, lasting: bool = True) -> None:
        """Something has come of what was tried; who waits is told, unless something else is wanted by now."""
        if not self._change.is_set():
            self._tried.set()
            if lasting:
                self._settled.set()

    def _serves(self, generation: Generation, *, reason: str | None) -> None:
        pid, started_at_ms = generation.program.pid, generation.started_at_ms
        self._keeper.change(state="running", pid=pid, started_at_ms=started_at_ms, reason=reason)
        self._outcome()

    def _set(self, state: State, *, reason: str | None = None) -> None:
        """It serves nobody now."""
        self._keeper.change(state=state, pid=None, started_at_ms=None, reason=reason)
