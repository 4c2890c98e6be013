"""The worker of hello.py in a program of its own: `python examples/remote_worker.py [URL]`."""

import asyncio
import sys

from hello import HelloWorker

from linkly import Client
from linkly.worker import running


async def main(url: str) -> None:
    async with Client(url, name="hello") as bus, running(HelloWorker(), bus):
        print("serving hello::greet", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*(sys.argv[1:] or ["ws://127.0.0.1:49134"])))
