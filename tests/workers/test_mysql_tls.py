"""Connections that are given up while they are made: nobody hears of them, and none is kept."""

import asyncio
import contextlib
import shutil
import socket
import ssl
import struct
import subprocess

import pytest

pytest.importorskip("asyncmy", reason="asyncmy is missing: pip install -e '.[dev]'")

from asyncmy.errors import MySQLError

from linkly.schema import read_settings
from linkly_workers.database.backends import OneDatabase
from linkly_workers.database.mysql.address import address_of
from linkly_workers.database.mysql.tls import TlsLoop
from linkly_workers.database.mysql.wire import connected


class Peer:
    """The server's side of a TLS handshake over a socket; it answers what has come when it is told to."""

    def __init__(self, context, connection):
        self._connection = connection
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.is_connected = False

    def answer(self):
        with contextlib.suppress(BlockingIOError):
            self._incoming.write(self._connection.recv(65_536))
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
            self.is_connected = True
        if data := self._outgoing.read():
            self._connection.sendall(data)


@pytest.fixture(scope="module")
def contexts(tmp_path_factory):
    """A server's context, and that of a client who trusts everybody."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl: install Debian's package `openssl`")
    folder = tmp_path_factory.mktemp("certificates")
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key.pem -out cert.pem"
    subprocess.run(["openssl", *words.split()], cwd=folder, check=True, capture_output=True)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    return server, client


async def test_a_connection_given_up_at_any_turn_of_its_handshake_tells_nobody_and_is_closed(contexts):
    server, client = contexts
    heard = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: heard.append(context))
    turns, is_connected = 0, False
    while not is_connected:  # one turn more each time
        turns += 1
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        peer = Peer(server, theirs)
        making = loop.create_task(
            TlsLoop(loop).create_connection(asyncio.Protocol, sock=ours, ssl=client, server_hostname="localhost")
        )
        for _ in range(turns):
            await asyncio.sleep(0)
            peer.answer()
        is_connected = making.done()
        if is_connected:
            (await making)[0].abort()
        else:
            making.cancel()
            with pytest.raises(asyncio.CancelledError):
                await making
        with contextlib.suppress(ConnectionResetError):
            while await loop.sock_recv(theirs, 65_536):
                pass  # until its end: ours is closed
        theirs.close()
    assert heard == []


async def test_a_connection_given_up_at_any_turn_ends_as_cancelled(mysql_url):
    address = address_of(read_settings(OneDatabase, {"url": mysql_url}, "$"))
    password = (address.password or "").encode()
    for turns in range(20):
        making = asyncio.create_task(connected(address, password, "test"))
        for _ in range(turns):
            await asyncio.sleep(0)
        if making.cancel():
            with pytest.raises(asyncio.CancelledError):
                await making
        else:
            (await making).abort()


async def test_a_server_that_cuts_a_connection_at_any_turn_could_not_be_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"mysql://ann:secret@127.0.0.1:{server.getsockname()[1]}/d"
        address = address_of(read_settings(OneDatabase, {"url": url}, "$"))
        for turns in range(20):
            making = asyncio.create_task(connected(address, b"secret", "test"))
            server.setblocking(False)
            theirs = None
            while theirs is None:
                await asyncio.sleep(0)
                with contextlib.suppress(BlockingIOError):
                    theirs, _ = server.accept()
            for _ in range(turns):
                await asyncio.sleep(0)
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            theirs.close()
            with pytest.raises((OSError, MySQLError)):
                await making
