"""Runs jobs that do nothing: `jobs_worker.py URL KIND`."""

import asyncio
import json
import sys

import uvloop
from linkly_client import client

from linkly import Worker, function
from linkly.worker import running


class Jobs(Worker):
    """One function."""

    name = "bench"

    @function("bench::job")
    async def job(self, number: int, text: str) -> None:
        """Do nothing."""


async def main(url: str, kind: str) -> None:
    async with client(url, kind, "bench") as bus, running(Jobs(), bus):
        print(json.dumps({}), flush=True)
        await asyncio.Event().wait()


uvloop.run(main(*sys.argv[1:]))
