"""Ports that a test names before anybody listens on them; whoever can, uses port 0 and reads what was opened."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reserved_port() -> Iterator[int]:
    """Yield a port of 127.0.0.1 that nobody else gets until the block ends.

    It stays bound and does not listen. Linux lets an engine open it beside this socket, because both set SO_REUSEADDR,
    as often as it starts; the kernel hands it to nobody who asks for any free port.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])
