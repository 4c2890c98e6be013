"""The look-up of a server's name."""

import socket

import pytest

from linkly_workers.database._server.lookup import check_host


async def test_a_host_is_known_or_not():
    for known in ("127.0.0.1", "::1", "localhost"):
        await check_host(known)
    with pytest.raises(socket.gaierror):
        await check_host("no-such-host.invalid")
