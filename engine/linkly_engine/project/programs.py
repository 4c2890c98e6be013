"""The programs of a project that run in processes of their own: started, changed and ended as config.yaml says.

`linkly_engine.process` supervises each of them; it is imported with the first program.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from linkly_engine.core.exchange import Exchange
from linkly_engine.project.config import Config
from linkly_engine.project.entry import LOGS, WorkerEntry
from linkly_engine.project.member import Member
from linkly_engine.remote.peers import Peers

if TYPE_CHECKING:
    from linkly_engine.process.child import ChildWorker
    from linkly_engine.process.guard import Guard


class Programs:
    """Starts and ends the programs; `url` says at each start where they connect."""

    def __init__(self, exchange: Exchange, peers: Peers, url: Callable[[], str]) -> None:
        self._exchange = exchange
        self._peers = peers
        self._url = url
        self._guard: Guard | None = None
        self._stack = AsyncExitStack()

    async def start(self, member: Member, config: Config) -> None:
        """Begin to supervise a program; it is installed and started in the background."""
        from linkly_engine.process.child import ChildWorker
        from linkly_engine.process.guard import Guard
        from linkly_engine.process.starting import Starter

        entry = member.entry
        if entry.folder is None:
            raise ValueError(f"worker `{entry.name}` has no folder")
        if self._guard is None:
            self._guard = await self._stack.enter_async_context(Guard())
        starter = Starter(
            self._exchange,
            self._peers,
            name=entry.name,
            folder=entry.folder,
            url=self._url,
            logs=config.folder.joinpath(*LOGS, entry.name),
            config=entry.config,
            config_path=config.file,
            guard=self._guard,
        )
        member.child = ChildWorker(self._exchange.clock, starter)
        await member.child.start()

    async def change(self, member: Member, entry: WorkerEntry, config: Config) -> None:
        """Run a program by another entry, or try one that failed again.

        In the same folder the next generation takes over from the one that runs, or does not come up and leaves it.
        """
        child = member.child
        if child is not None and child.status.state != "stopped" and member.entry.folder == entry.folder:
            member.entry = entry
            child.starter.config = entry.config
            await self._renew(child)
            return
        if child is not None:
            member.made_anew += child.status.restarts + 1
            await self.end([member])
        member.entry = entry
        await self.start(member, config)

    async def restart(self, member: Member, config: Config) -> None:
        """Start a program anew; one that runs is replaced without a gap, in the background."""
        if member.child is None:
            await self.start(member, config)
        else:
            await self._renew(member.child)

    async def move(self, members: Iterable[Member]) -> None:
        """Replace the programs that run: the worker port has another address."""
        for member in members:
            if member.child is not None and member.runs:
                await self._renew(member.child)

    async def _renew(self, child: ChildWorker) -> None:
        # A program may take a minute to come up: no other change of the project waits for that.
        self._exchange.spawn(child.restart(), name=f"restart of {child.name}")
        await asyncio.sleep(0)  # its first step asks for it, so that `outcome` is that of the next generation

    async def end(self, members: Iterable[Member]) -> None:
        """End programs and all their processes, at the same time."""
        ending = [member for member in members if member.child is not None]
        await asyncio.gather(*(member.child.stop() for member in ending if member.child is not None))
        for member in ending:
            member.child = None

    async def stop(self, members: Iterable[Member]) -> None:
        """End all of them, and the guard."""
        try:
            await self.end(members)
        finally:
            await self._stack.aclose()
