"""A worker on iii's own Python SDK that answers what it is given: `iii_callee.py URL`."""

import json
import sys
import threading

from iii import InitOptions, register_worker

worker = register_worker(sys.argv[1], InitOptions(worker_name="callee"))


async def echo(payload: dict) -> dict:
    return {"text": payload["text"]}


worker.register_function("bench::echo0", echo)
print(json.dumps({}), flush=True)
threading.Event().wait()
