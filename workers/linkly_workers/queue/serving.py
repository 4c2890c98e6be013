"""Serves one queue: claims jobs, runs them, and has their ends written.

A turn is one transaction: the ends of attempts since the last turn, and as many new ones as there are free slots. So
the more runs side by side, the more shares a commit; a slot is free when the end of its job is written. Turns come when
somebody calls `wake`: a job was accepted or is due, a function is there, an attempt has ended.

A turn of which nobody knows whether it happened is followed by a look at what the database says is active here: jobs
that were claimed without an answer are given back, ends are sent again, which is harmless because of their tokens.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress

from linkly.clock import Clock, time_limit
from linkly.errors import LinklyError
from linkly_workers.queue.errors import TooLargeToBegin
from linkly_workers.queue.jobs import Claimed, Ended, Lane, State
from linkly_workers.queue.store import QueueStore
from linkly_workers.queue.stored import Turn

log = logging.getLogger("linkly.queue")

AGAIN_S = (0.05, 0.2, 1.0)
"""Pauses before a turn that the database has refused is tried again; the last one is repeated."""

AT_ONCE = 1000
"""Jobs that a turn claims: more slots are filled by the next ones, and others can write between them."""

LOOK_AGAIN_S = 60.0
"""A transaction that was not answered is looked for at once, and after this time: it may have gone on without us."""

Run = Callable[[Claimed, Lane], Awaitable[Ended]]


class Consumer:
    """Serves one queue.

    Args:
        queue: The store's number.
        store: Where its jobs are.
        clock: For pauses.
        run: Runs an attempt; raises nothing.
        served: Gives the lanes whose functions can be called now.
        due: Told when a job is due that has to wait.
        over: Told of jobs that are done or dead: how, and at which positions.
        concurrency: Attempts at a time; of a queue with groups: groups.
        groups: Jobs of one message group run one after another.

    Attributes:
        paused: Nothing is started; what runs goes on.
        concurrency: Attempts at a time.
        late: Attempts that ended when their token was not valid any more.
    """

    def __init__(
        self,
        queue: int,
        store: QueueStore,
        clock: Clock,
        *,
        run: Run,
        served: Callable[[], Awaitable[Sequence[Lane]]],
        due: Callable[[int], object],
        over: Callable[[State, Sequence[int]], object],
        concurrency: int,
        groups: bool = False,
    ) -> None:
        self.queue = queue
        self.paused = False
        self.late = 0
        self._store = store
        self._clock = clock
        self._run = run
        self._served = served
        self._due = due
        self.concurrency = concurrency
        self._over = over
        self._groups = groups
        self._wake = asyncio.Event()
        self._is_news = True
        self._stopping = False
        self._must_look = False
        self._revoked: set[int] = set()
        self._ended: list[Ended] = []
        self._attempts: dict[int, tuple[Claimed, asyncio.Task[None]]] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}
        """Attempts that were cancelled and have not ended, by their message groups."""

    @property
    def active(self) -> int:
        """Attempts whose end is not written yet."""
        return len(self._attempts)

    def wake(self) -> None:
        """Look for jobs: there may be new ones."""
        self._is_news = True
        self._wake.set()

    async def serve(self) -> None:
        """Serve until this is cancelled, or until `stop` has been called and nothing runs any more."""
        failures = 0
        while not (self._stopping and not self._attempts and not self._ended):
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._turn()
                self._revoked.clear()
                failures = 0
            except Exception as error:
                self._look_now()
                self._clock.call_later(LOOK_AGAIN_S, self._look_now)
                if not isinstance(error, LinklyError):
                    log.exception("a turn of queue %d has failed, it is tried again", self.queue)
                elif not failures:
                    log.warning("queue %d: the database does not take a turn, it is tried again: %s", self.queue, error)
                await self._clock.sleep(AGAIN_S[min(failures, len(AGAIN_S) - 1)])
                failures += 1
                self.wake()

    async def stop(self, grace_s: float) -> None:
        """Claim nothing more, wait for what runs, and give back at once what then still runs.

        Their starts do not count, and they keep their places.
        """
        self._stopping = True
        self.wake()
        tasks = [task for _, task in self._attempts.values()]
        if tasks:
            with suppress(TimeoutError):
                async with time_limit(self._clock, grace_s):
                    await asyncio.wait(tasks)
        for job, task in list(self._attempts.values()):
            if not task.done():
                task.cancel()
                self._ends(_given_back(job.position, job.starts, job.message_group))

    async def cancel(self, position: int) -> None:
        """Cancel the attempt of a job that was cancelled in the store, and wait for its function."""
        found = self._attempts.get(position)
        if found is None:
            self._revoked.add(position)  # its claim may be on its way
        else:
            self._cancel(*found)
            await asyncio.wait([found[1]])

    async def revoke(self) -> None:
        """Cancel the attempts of jobs that another engine has cancelled or taken over, as the store says."""
        attempts = list(self._attempts.values())
        still = {(job.position, job.starts) for job in await self._store.active_here(self.queue)}
        for job, task in attempts:
            if (job.position, job.starts) not in still and not task.done():
                self._cancel(job, task)

    def _cancel(self, job: Claimed, task: asyncio.Task[None]) -> None:
        task.cancel()
        if job.message_group is not None:
            self._ending.setdefault(job.message_group, task)  # one that waits for another has not begun
        task.add_done_callback(lambda _: self._freed(job, task))

    def _freed(self, job: Claimed, task: asyncio.Task[None]) -> None:
        found = self._attempts.get(job.position)
        if task.cancelled() and found is not None and found[1] is task:
            del self._attempts[job.position]
        if job.message_group is not None and self._ending.get(job.message_group) is task:
            del self._ending[job.message_group]
        self.wake()

    async def _turn(self) -> None:
        if self._must_look:
            await self._look()
        ended = list(self._ended)
        free = self.concurrency - len(self._attempts) + sum(map(self._holds_a_slot, ended))
        if self.paused or self._stopping or not self._is_news:
            free = 0
        if free > 0:
            self._is_news = False  # what comes from here on says so again
        try:
            lanes = await self._served() if free > 0 else ()
            if not ended and not lanes:
                return
            turn, asked = await self._written(ended, lanes, free)
        except BaseException:
            self._is_news = True
            raise
        del self._ended[: len(ended)]
        for end in ended:
            if self._holds_a_slot(end):
                del self._attempts[end.position]
            self.late += end.position not in turn.taken
            if end.due_at is not None:
                self._due(end.due_at)
        self._tell(end for end in ended if end.position in turn.taken)
        by_id = {lane.id: lane for lane in lanes}
        for job in turn.claimed:
            if self._stopping:  # since the claim was sent
                self._ends(_given_back(job.position, job.starts, job.message_group))
            elif job.position not in self._revoked:
                self._begin(job, by_id[job.lane])
        if lanes and len(turn.claimed) == asked:
            self._is_news = True  # there may be more, for the next slots
            if asked < free:
                self._wake.set()

    async def _written(self, ended: Sequence[Ended], lanes: Sequence[Lane], free: int) -> tuple[Turn, int]:
        """Write a turn; return it, and how many claims it asked for: fewer if all would be too many or too large.

        Ends are written although not even one job can begin.
        """
        most = min(free, AT_ONCE)
        while True:
            try:
                return await self._store.turn(self.queue, ended, lanes, most, groups=self._groups), most
            except TooLargeToBegin:
                if not most or (most == 1 and not ended):
                    raise
                most //= 2

    def _holds_a_slot(self, end: Ended) -> bool:
        begun = self._attempts.get(end.position)
        return begun is not None and begun[0].starts == end.starts

    def _tell(self, ended: Iterable[Ended]) -> None:
        by_state: dict[State, list[int]] = {State.DONE: [], State.DEAD: []}
        for end in ended:
            if end.state in by_state:
                by_state[end.state].append(end.position)
        for state, positions in by_state.items():
            self._over(state, positions)

    def _begin(self, job: Claimed, lane: Lane) -> None:
        task = asyncio.get_running_loop().create_task(
            self._attempt(job, lane), name=f"job {job.id}", context=contextvars.Context()
        )
        self._attempts[job.position] = (job, task)

    async def _attempt(self, job: Claimed, lane: Lane) -> None:
        if job.message_group in self._ending:  # the store has let its group go on; the function has not ended
            await asyncio.wait([self._ending[job.message_group]])
        self._ends(await self._run(job, lane))

    def _ends(self, ended: Ended) -> None:
        self._ended.append(ended)
        self._is_news |= self._groups or ended.state is State.WAITING  # the next of its group, or itself
        self._wake.set()

    def _look_now(self) -> None:
        self._must_look = True
        self._wake.set()

    async def _look(self) -> None:
        """Find out what an unanswered turn has done."""
        known = {end.position: end.starts for end in self._ended}
        known |= {position: job.starts for position, (job, _) in self._attempts.items()}
        active = await self._store.active_here(self.queue)
        still = {(job.position, job.starts) for job in active}
        # Their ends were taken before, or they were cancelled: whoever is told reads which.
        self._tell(end for end in self._ended if (end.position, end.starts) not in still)
        for job in active:
            if known.get(job.position) != job.starts:
                self._ended.append(_given_back(job.position, job.starts, job.message_group))
        self._must_look = False
        self._is_news = True


def _given_back(position: int, starts: int, message_group: str | None) -> Ended:
    return Ended(position=position, starts=starts, state=State.WAITING, returned=True, message_group=message_group)
