"""A worker in a program of its own that runs jobs and notes each attempt: `python queue_program.py URL NAME LOG`.

A line of the log is `begin ID ATTEMPT GROUP NUMBER` or `end ...`, one write each, so that programs can share a file and
one that is killed leaves no half of a line. What a job does is told by its payload: `fails` is how many attempts fail.
"""

import asyncio
import os
import sys
from typing import Any

from linkly import Client, Worker, function
from linkly.queue import current_job
from linkly.worker import running


class Jobs(Worker):
    """Runs jobs."""

    name = "jobs"

    def __init__(self, log: int) -> None:
        super().__init__()
        self._log = log

    @function("jobs::run")
    async def run(self, group: str, number: int, fails: int = 0) -> None:
        """Note the attempt, and fail or not.

        Args:
            group: Whose line it is in.
            number: Its place there.
            fails: How many attempts fail.

        Raises:
            RuntimeError: It had to fail.
        """
        job = current_job()
        self._note("begin", job, group, number)
        await asyncio.sleep(0)
        if job.attempt <= fails:
            raise RuntimeError(f"attempt {job.attempt} of {fails} that fail")
        self._note("end", job, group, number)

    def _note(self, what: str, job: Any, group: str, number: int) -> None:
        os.write(self._log, f"{what} {job.id} {job.attempt} {group} {number}\n".encode())


async def main(url: str, name: str, log: str) -> None:
    """Serve until it is killed."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    async with Client(url, name=name) as bus, running(Jobs(file), bus):
        print("serving", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
