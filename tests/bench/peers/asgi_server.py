"""Serves an ASGI app as well as uvicorn can: uvloop, httptools, one process, no access log; says its port as JSON."""

import json
import socket
from typing import Any

import uvicorn
import uvloop


def serve(app: Any) -> None:
    """Serve until the process is ended."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    config = uvicorn.Config(app, loop="uvloop", http="httptools", access_log=False, log_level="error", lifespan="auto")
    server = uvicorn.Server(config)

    # Connections wait in the socket's queue until the server takes them.
    print(json.dumps({"port": listening.getsockname()[1]}), flush=True)
    uvloop.run(server.serve(sockets=[listening]))
