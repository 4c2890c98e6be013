"""Where a PostgreSQL server is and how it is spoken to, out of one entry of `databases`.

Urls are read as libpq reads them, so that what a provider hands out can be pasted: keys of the query mean what they
mean there, and one that linkly cannot follow is refused by its name. It knows no driver and opens nothing.
"""

from __future__ import annotations

import os
from typing import ClassVar, cast

from linkly_workers.database._server.address import (
    Reader,
    ServerAddress,
    SslMode,
    as_text,
    client_cert,
    client_key,
    connect_timeout,
    one_of,
    parsed,
    port_of,
    read_keys,
    secure,
)
from linkly_workers.database.backends import OneDatabase

PORT = 5432
SCHEMES = ("postgres", "postgresql", "postgresql+asyncpg")

_MODES = SslMode.__args__  # type: ignore[attr-defined]
_SOCKET_FOLDER = "/var/run/postgresql"


class Address(ServerAddress, kw_only=True):
    """How one server, or the first of several that answers, is reached.

    A host that begins with `/` is the folder of a socket. What is left out is what libpq takes: PGUSER or the user of
    this process, PGPASSWORD or ~/.pgpass, the database named like the user.

    Attributes:
        direct_tls: TLS begins with the first byte (`sslnegotiation=direct`).
        server_settings: What the session starts with.
        session_attributes: Which of several servers will do (`target_session_attrs`).
    """

    scheme: ClassVar[str] = "postgres"

    direct_tls: bool = False
    server_settings: dict[str, str] = {}
    session_attributes: str | None = None


def address_of(settings: OneDatabase, url: str | None = None) -> Address:
    """Return the address of an entry; `url` in place of its own.

    Raises:
        ValueError: The url cannot be used; the message starts with the key and holds no password.
    """
    url = settings.url if url is None else url
    address, keys = parsed(url, PORT, Address)
    if url.lower().startswith("postgresql+asyncpg:") and "ssl" in keys:  # what SQLAlchemy hands to asyncpg
        keys["sslmode"] = keys.pop("ssl")
    read_keys(address, keys, _READERS)
    if not address.hosts:
        address.hosts = [(_SOCKET_FOLDER if os.path.isdir(_SOCKET_FOLDER) else "localhost", PORT)]
    secure(address, settings.tls, "sslmode" if "sslmode" in keys else None)
    if keys.get("channel_binding") == "require":
        if address.ssl == "disable":
            raise ValueError("url: `channel_binding=require` needs TLS, and `sslmode` or `tls` turn it off")
        # The driver has no channel binding. It would prove that the server is the right one: so does the certificate.
        address.ssl = "verify-full"
    if address.direct_tls and address.ssl in ("disable", "allow", "prefer"):
        raise ValueError("url: `sslnegotiation=direct` needs `sslmode=require` at least")
    return address


def direct_address_of(settings: OneDatabase, url: str) -> Address:
    """Return the address of the server behind a pooler.

    Raises:
        ValueError: As `address_of`; or its scheme is that of another kind of database.
    """
    if url.partition(":")[0].lower() not in SCHEMES:
        raise ValueError(f"direct_url: it begins with {' or '.join(f'`{each}://`' for each in SCHEMES)}")
    try:
        return address_of(settings, url)
    except ValueError as error:
        text = str(error)
        raise ValueError(f"direct_{text}" if text.startswith("url:") else text) from error


# --- the keys of libpq --------------------------------------------------------------------------------------


def _host_key(address: Address, value: str) -> None:
    ports = [port for _, port in address.hosts]
    names = value.split(",")
    address.hosts = [(name, ports[at] if at < len(ports) else PORT) for at, name in enumerate(names) if name]


def _port_key(address: Address, value: str) -> None:
    ports = [port_of(each, PORT) for each in value.split(",")]
    names = [host for host, _ in address.hosts] or ["localhost"]
    if len(ports) not in (1, len(names)):
        raise ValueError(f"url: `port` names {len(ports)} ports for {len(names)} hosts")
    address.hosts = [(name, ports[at % len(ports)]) for at, name in enumerate(names)]


def _setting(name: str) -> Reader[Address]:
    def read(address: Address, value: str) -> None:
        address.server_settings = {**address.server_settings, name: value}

    return read


def _ignored(_: Address, value: str) -> None:
    """How the network is watched is for the system to say."""


def _sslmode(address: Address, value: str) -> None:
    if value not in _MODES:
        raise ValueError(f"url: `sslmode={value}` is unknown; use one of {', '.join(_MODES)}")
    address.ssl = cast("SslMode", value)


def _root_cert(address: Address, value: str) -> None:
    address.ca_cert = None if value == "system" else value


def _negotiation(address: Address, value: str) -> None:
    one_of("sslnegotiation", "postgres", "direct")(address, value)
    address.direct_tls = value == "direct"


def _session_attributes(address: Address, value: str) -> None:
    one_of("target_session_attrs", "any", "primary", "read-write", "prefer-standby", "standby", "read-only")(
        address, value
    )
    address.session_attributes = value


_READERS: dict[str, Reader[Address]] = {
    "host": _host_key,
    "port": _port_key,
    "user": as_text("user"),
    "password": as_text("password"),
    "dbname": as_text("database"),
    "sslmode": _sslmode,
    "sslrootcert": _root_cert,
    "sslcert": client_cert,
    "sslkey": client_key,
    "sslnegotiation": _negotiation,
    "channel_binding": one_of("channel_binding", "disable", "prefer", "require"),
    "connect_timeout": connect_timeout,
    "application_name": _setting("application_name"),
    "options": _setting("options"),
    "target_session_attrs": _session_attributes,
    "client_encoding": one_of("client_encoding", "utf8", "utf-8", "auto"),
    "gssencmode": one_of("gssencmode", "disable", "prefer"),
    "keepalives": _ignored,
    "keepalives_idle": _ignored,
    "keepalives_interval": _ignored,
    "keepalives_count": _ignored,
}
"""How each key of the query is read; `port` after `host`, whatever the order in the url."""
