"""Finds the worker of a telemetry socket, which an SDK opens beside the worker's own and on which it names only itself.

A client on this machine is known by the process that holds the other end, which the kernel tells on Linux. On other
systems, and for clients on other machines, the worker stays unknown, and records are shown under their service's name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
LOCAL, REMOTE, INODE = 1, 2, 9
"""Columns of these tables."""


def holder(client_port: int, server_port: int, pids: Iterable[int]) -> int | None:
    """Return which of these processes has the client's end of a TCP connection between two ports of this machine."""
    inode = _inode(f":{client_port:04X}", f":{server_port:04X}")
    if inode is None:
        return None
    wanted = f"socket:[{inode}]"
    return next((pid for pid in pids if wanted in _files(pid)), None)


def _inode(client: str, server: str) -> str | None:
    for table in TABLES:
        try:
            with open(table, encoding="ascii") as file:
                for line in file:
                    fields = line.split()
                    if fields[LOCAL].endswith(client) and fields[REMOTE].endswith(server):
                        return fields[INODE]
        except OSError:
            continue
    return None


def _files(pid: int) -> set[str]:
    folder = f"/proc/{pid}/fd"
    found: set[str] = set()
    try:
        names = os.listdir(folder)
    except OSError:
        return found
    for name in names:
        try:
            found.add(os.readlink(f"{folder}/{name}"))
        except OSError:  # closed since
            continue
    return found
