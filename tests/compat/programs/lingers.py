"""A worker whose own code ends behind its last registration; told the engine's URL in the environment."""

import os

from iii import InitOptions, register_worker

worker = register_worker(os.environ["III_URL"], InitOptions(worker_name="lingers"))


async def hello(data):
    return {"message": f"hello {data['name']}"}


worker.register_function("lingers::hello", hello)
print("the end", flush=True)
