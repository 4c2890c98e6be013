"""Two clients without a name in one Python process; its argument is the prefix of their function ids."""

import os
import sys
import threading

from iii import InitOptions, register_worker


def serve(prefix, half):
    worker = register_worker(os.environ["III_URL"], InitOptions(otel={"enabled": False}))
    name = f"{prefix}_{half}"

    def say(data):
        return {"half": half, "heard": data["word"]}

    async def forward(data):
        payload = {"word": data["word"]}
        return await worker.trigger_async({"function_id": data["to"] + "::say", "payload": payload})

    worker.register_function(f"{name}::say", say)
    worker.register_function(f"{name}::pass", forward)
    worker.register_function(f"{name}::ready", lambda data: True)
    return worker


halves = [serve(sys.argv[1], half) for half in ("left", "right")]
threading.Event().wait()
