"""To whom a password of MySQL is told."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from linkly.errors import ConfigError
from support.database_calls import running

pytest.importorskip("asyncmy", reason="asyncmy is missing: pip install -e '.[dev]'")

SECURE_CONNECTION, PLUGIN_AUTH, PROTOCOL_41 = 1 << 15, 1 << 19, 1 << 9
SALT = bytes(range(1, 21))


def packet(number, payload):
    return len(payload).to_bytes(3, "little") + bytes([number]) + payload


def greeting():
    capabilities = (SECURE_CONNECTION | PLUGIN_AUTH | PROTOCOL_41).to_bytes(4, "little")
    begin = b"\x0a" + b"8.0.0\0" + (7).to_bytes(4, "little") + SALT[:8] + b"\0"
    rest = capabilities[:2] + b"\x2d" + (2).to_bytes(2, "little") + capabilities[2:] + b"\x15" + bytes(10)
    return packet(0, begin + rest + SALT[8:] + b"\0" + b"mysql_native_password\0")


@asynccontextmanager
async def asking(plugin):
    """Run a server that wants to log in by a plugin; yields its port and all that it has been told."""
    told = bytearray()

    async def serve(reader, writer):
        writer.write(greeting())
        told.extend(await reader.readuntil(b"mysql_native_password"))
        writer.write(packet(2, b"\xfe" + plugin + b"\0" + SALT + b"\0"))
        while data := await reader.read(1000):
            told.extend(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], told
    finally:
        server.close()


@pytest.mark.parametrize("plugin", [b"mysql_clear_password", b"mysql_old_password", b"dialog"])
async def test_a_server_that_asks_for_a_password_in_clear_text_is_not_told(plugin):
    async with asking(plugin) as (port, told):
        with pytest.raises(ConfigError, match="asks for the password in clear text, and there is no TLS"):
            async with running(f"mysql://ann:s3cret@127.0.0.1:{port}/d"):
                pass
        assert b"ann" in told
        assert b"s3cret" not in told
