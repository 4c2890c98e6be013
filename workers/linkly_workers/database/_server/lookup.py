"""The look-up of a host's name, for those who may be cancelled meanwhile.

uvloop tells its exception handler of a name that is unknown when whoever wanted to connect there has been cancelled.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from ipaddress import ip_address
from typing import Any


async def check_host(host: str) -> None:
    """Return when a host is known; an address is at once.

    Raises:
        OSError: It is not.
    """
    with suppress(ValueError):
        ip_address(host)
        return
    asking = asyncio.ensure_future(asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM))
    asking.add_done_callback(_take)
    await asyncio.shield(asking)


def _take(asking: asyncio.Future[Any]) -> None:
    if not asking.cancelled():
        asking.exception()
