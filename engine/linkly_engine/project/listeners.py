"""The worker ports of a project: opened at the start, opened and closed when config.yaml changes.

A connection that came through a port stays open when the port closes.
"""

from __future__ import annotations

import asyncio

import msgspec

from linkly.errors import ConfigError
from linkly_engine.project.listener import Listener
from linkly_engine.remote.server import Remote, WorkerServer

ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}
FREE_TURNS = 20
"""Turns of the loop that a closed port may take to be free."""


class _Open(msgspec.Struct):
    listener: Listener
    server: WorkerServer


class ListenerChanges(msgspec.Struct):
    """What `Listeners.change` did.

    Attributes:
        opened: Addresses.
        closed: Addresses.
        problems: Sentences about what could not be done.
    """

    opened: list[str] = []
    closed: list[str] = []
    problems: list[str] = []


class Listeners:
    """Opens and closes worker ports; `remote` is what their connections need."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._open: list[_Open] = []

    @property
    def servers(self) -> list[WorkerServer]:
        """The open ports, in the order of the file."""
        return [each.server for each in self._open]

    @property
    def url(self) -> str:
        """Where a program on this machine connects."""
        if not self._open:
            return ""
        first = self._open[0]
        host = first.listener.host
        local = ANY_ADDRESS.get(host, f"[{host}]" if ":" in host else host)
        return f"ws://{local}:{first.server.port}"

    async def start(self, listeners: list[Listener]) -> None:
        """Open them all.

        Raises:
            ConfigError: One cannot be opened; the others are open until `stop`.
        """
        for listener in listeners:
            self._open.append(await self._start(listener))

    async def stop(self) -> None:
        """Close them all."""
        for each in self._open:
            await each.server.stop()
        self._open = []

    async def change(self, listeners: list[Listener]) -> ListenerChanges:
        """Open and close ports until `listeners` are open; one that cannot be opened leaves an old one open instead."""
        changes = ListenerChanges()
        leaving = list(self._open)
        places: list[_Open | None] = []
        for listener in listeners:
            kept = next((each for each in leaving if each.listener == listener), None)
            if kept is not None:
                leaving.remove(kept)
            places.append(kept)
        for number, listener in enumerate(listeners):
            if places[number] is None:
                places[number] = await self._replace(listener, leaving, changes)
        for each in leaving:
            changes.closed.append(each.server.url)
            await each.server.stop()
        self._open = [each for each in places if each is not None]
        return changes

    async def _replace(self, listener: Listener, leaving: list[_Open], changes: ListenerChanges) -> _Open | None:
        rival = next((each for each in leaving if each.listener.port == listener.port != 0), None)
        closed = ""
        if rival is not None:
            leaving.remove(rival)
            closed = rival.server.url
            await rival.server.stop()
        try:
            opened = await self._start(listener, again=rival is not None)
        except ConfigError as error:
            changes.problems.append(error.message)
            if rival is None:
                return leaving.pop(0) if leaving else None
            try:
                return await self._start(rival.listener, again=True)
            except ConfigError as lost:
                changes.problems.append(lost.message)
                return None
        changes.opened.append(opened.server.url)
        if rival is not None:
            changes.closed.append(closed)
        return opened

    async def _start(self, listener: Listener, *, again: bool = False) -> _Open:
        server = WorkerServer(
            self._remote,
            host=listener.host,
            port=listener.port,
            handshake_timeout_s=listener.handshake_timeout_s,
            allowed_origins=listener.allowed_origins,
        )
        for turn in range(FREE_TURNS):
            try:
                await server.start()
                break
            except ConfigError:
                if not again or turn == FREE_TURNS - 1:
                    raise
                await asyncio.sleep(0)  # the loop closes a socket in a later turn
        return _Open(listener, server)
