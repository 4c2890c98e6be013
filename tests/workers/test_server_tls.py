"""Connections over TLS and over a socket, to a server whose certificate somebody of our own has signed."""

import os
import shutil
import subprocess

import pytest

from linkly import LinklyError
from linkly.errors import ConfigError
from support.database_calls import rows, running, value

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="there is no openssl: install Debian's package `openssl`"
)

SETTINGS = {
    "postgres": ("ssl=on", "ssl_cert_file={}/server.pem", "ssl_key_file={}/server.key"),
    "mysql": ("ssl-cert={}/server.pem", "ssl-key={}/server.key"),
}
ENCRYPTED = {
    "postgres": "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    "mysql": "SELECT variable_value > '' FROM information_schema.session_status WHERE variable_name = 'Ssl_cipher'",
}


def openssl(folder, *words):
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Certificates: `ca.pem` has signed `server.pem`, which is for the name localhost and not for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("certificates")
    new = ("req", "-newkey", "rsa:2048", "-nodes", "-days", "2")
    openssl(folder, *new, "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca")
    openssl(folder, *new, "-x509", "-keyout", "other.key", "-out", "other.pem", "-subj", "/CN=other")
    openssl(folder, *new, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName=DNS:localhost")
    signed = ("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
    openssl(folder, *signed, "-extfile", "names", "-out", "server.pem")
    return folder


@pytest.fixture(scope="module")
def server(folder, kind):
    with kind.run() as server:
        owner = (server.folder / "data").stat()
        for name in ("server.key", "server.pem"):
            target = server.folder / name
            shutil.copy(folder / name, target)
            target.chmod(0o600)
            os.chown(target, owner.st_uid, owner.st_gid)
        server.stop()
        server.start(*(setting.format(server.folder) for setting in SETTINGS[kind.driver]))
        yield server


async def encrypted(bus, kind):
    return bool(await value(bus, ENCRYPTED[kind.driver]))


@pytest.mark.parametrize(
    "host, query_text, tls, expected",
    [
        ("127.0.0.1", "", None, False),
        ("127.0.0.1", "", {"mode": "require", "ca_cert": "ca.pem"}, True),
        ("localhost", "", {"mode": "verify-full", "ca_cert": "ca.pem"}, True),
        ("127.0.0.1", {"postgres": "?sslmode=require", "mysql": "?ssl-mode=REQUIRED"}, None, True),
        ("127.0.0.1", {"postgres": "?sslmode=prefer"}, None, True),
        (
            "localhost",
            {
                "postgres": "?sslmode=verify-full&sslrootcert={folder}/ca.pem",
                "mysql": "?ssl-mode=VERIFY_IDENTITY&ssl-ca={folder}/ca.pem",
            },
            None,
            True,
        ),
        (
            "localhost",
            {"postgres": "?sslmode=require&sslrootcert={folder}/ca.pem&channel_binding=require"},
            None,
            True,
        ),
    ],
)
async def test_a_connection_is_as_secure_as_asked(server, folder, kind, host, query_text, tls, expected):
    said = query_text if isinstance(query_text, str) else query_text.get(kind.driver)
    if said is None:
        pytest.skip(f"{kind.driver} does not say it so")
    url = server.url.replace("127.0.0.1", host) + said.format(folder=folder)
    more = {} if tls is None else {"tls": {**tls, "ca_cert": str(folder / tls["ca_cert"])}}
    async with running(url, **more) as bus:
        assert await encrypted(bus, kind) is expected
        with pytest.raises(LinklyError, match="max_result_bytes"):
            await rows(bus, "SELECT repeat('x', 10000000)")
        with pytest.raises(LinklyError, match="took longer"):
            await bus.trigger("database::query", {"sql": f"SELECT {kind.sleep}(600)", "timeout_ms": 50})
        assert await encrypted(bus, kind) is expected


@pytest.mark.parametrize(
    "host, tls",
    [
        ("127.0.0.1", {"mode": "require", "ca_cert": "other.pem"}),
        ("127.0.0.1", {"mode": "verify-full", "ca_cert": "ca.pem"}),
        ("localhost", {"mode": "verify-full", "ca_cert": "other.pem"}),
        ("localhost", {"mode": "require"}),
    ],
)
async def test_a_server_that_cannot_be_trusted_stops_the_worker(server, folder, host, tls):
    given = {**tls, **({"ca_cert": str(folder / tls["ca_cert"])} if "ca_cert" in tls else {})}
    with pytest.raises(ConfigError, match="certificate"):
        async with running(server.url.replace("127.0.0.1", host), tls=given):
            pass


async def test_a_missing_file_of_certificates_stops_the_worker(server):
    with pytest.raises(ConfigError, match=r"missing\.pem"):
        async with running(server.url, tls={"ca_cert": "/missing.pem"}):
            pass


async def test_a_socket_is_never_encrypted(server, kind):
    async with running(server.socket_url) as bus:
        assert await encrypted(bus, kind) is False
