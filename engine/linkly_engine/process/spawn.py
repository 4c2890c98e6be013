"""A process in a session of its own, and its end as an event.

`subprocess.Popen` and not the loop's own: uvloop passes every inheritable descriptor on, copies of the engine's output
among them, and a reader of that output would wait until the workers have ended too.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from pathlib import Path


class Process:
    """A process that was started.

    Attributes:
        pid: Its number, also of its session and its process group.
        popen: For its pipes and its exit code.
        exited: Set when it has ended and was reaped.
    """

    def __init__(
        self, arguments: list[str], *, stdin: int, output: int, folder: Path, environment: dict[str, str] | None = None
    ) -> None:
        """Start it in `folder`; `output` is for stdout and stderr.

        Raises:
            OSError: It cannot be started.
        """
        self.exited = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.popen = subprocess.Popen(
            arguments,
            stdin=stdin,
            stdout=output,
            stderr=output,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
        self.pid = self.popen.pid
        try:
            descriptor = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # not Linux, or an old one: a thread waits
            threading.Thread(target=self._wait, name=f"wait for {self.pid}", daemon=True).start()
        else:
            self._loop.add_reader(descriptor, self._readable, descriptor)

    def _readable(self, descriptor: int) -> None:
        if self.popen.poll() is not None:
            self._loop.remove_reader(descriptor)
            os.close(descriptor)
            self.exited.set()

    def _wait(self) -> None:
        self.popen.wait()
        try:
            self._loop.call_soon_threadsafe(self.exited.set)
        except RuntimeError:  # the loop has been closed
            return
