"""One of several programs that offer the same function and the same route; its argument is its name."""

import os
import sys
import threading

from iii import InitOptions, register_worker

name = sys.argv[1]
worker = register_worker(os.environ["III_URL"], InitOptions(worker_name=name))
worker.register_function("replica::who", lambda data: {"status_code": 200, "body": name})
config = {"api_path": "/replica", "http_method": "GET"}
worker.register_trigger({"type": "http", "function_id": "replica::who", "config": config})
worker.register_function(f"{name}::ready", lambda data: True)
threading.Event().wait()
