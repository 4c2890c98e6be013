"""Where a PostgreSQL server is and how it is spoken to, out of one entry of `databases`.

Urls are read as libpq reads them, so that what a provider hands out can be pasted: keys of the query mean what they
mean there, and one that linkly cannot follow is refused by its name. It knows no driver and opens nothing. No text that
it makes holds a password.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal, cast
from urllib.parse import parse_qsl, quote, unquote

import msgspec

from linkly_workers.database.backends import OneDatabase, TlsSettings

SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
PORT = 5432
CONNECT_TIMEOUT_S = 10.0
SCHEMES = ("postgres", "postgresql", "postgresql+asyncpg")

_ESCAPED = "a `/`, `:`, `?` or `@` of a password is written %2F, %3A, %3F, %40"
_MODES = SslMode.__args__  # type: ignore[attr-defined]
_LOCAL = ("localhost", "127.0.0.1", "::1")
_SOCKET_FOLDER = "/var/run/postgresql"


class Address(msgspec.Struct, kw_only=True):
    """How one server, or the first of several that answers, is reached.

    Attributes:
        hosts: Name or address and port of each; a name that begins with `/` is the folder of a socket.
        user: Who connects; `None`: what libpq takes, which is PGUSER or the user of this process.
        password: His password; `None`: PGPASSWORD or ~/.pgpass.
        database: Which one; `None`: the one named like the user.
        ssl: What libpq calls sslmode.
        ca_cert: File of the certificates that are trusted; `None`: those that the system trusts.
        client_cert: Files of a certificate for this side and of its key.
        direct_tls: TLS begins with the first byte (`sslnegotiation=direct`).
        connect_timeout_s: How long a connection may take to be made.
        server_settings: What the session starts with.
        session_attributes: Which of several servers will do (`target_session_attrs`).
    """

    hosts: list[tuple[str, int]]
    user: str | None = None
    password: str | None = None
    database: str | None = None
    ssl: SslMode = "disable"
    ca_cert: str | None = None
    client_cert: tuple[str, str | None] | None = None
    direct_tls: bool = False
    connect_timeout_s: float = CONNECT_TIMEOUT_S
    server_settings: dict[str, str] = {}
    session_attributes: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether nothing of it leaves this machine."""
        return all(host.startswith("/") or host in _LOCAL for host, _ in self.hosts)

    @property
    def url(self) -> str:
        """Where it is, for listings and errors: without a password."""
        user = "" if self.user is None else f"{quote(self.user, safe='')}@"
        hosts = ",".join(f"{_shown(host)}:{port}" for host, port in self.hosts)
        return f"postgres://{user}{hosts}/{quote(self.database or '', safe='')}"


def address_of(settings: OneDatabase, url: str | None = None) -> Address:
    """Return the address of an entry; `url` in place of its own.

    Raises:
        ValueError: The url cannot be used; the message starts with the key and holds no password.
    """
    address, keys = _parsed(settings.url if url is None else url)
    for name in keys:
        if name not in _READERS:
            raise ValueError(f"url: `{name}` is not a parameter that linkly knows; it knows {', '.join(_READERS)}")
    for name, read in _READERS.items():
        if name in keys:
            read(address, keys[name])
    if not address.hosts:
        address.hosts = [(_SOCKET_FOLDER if os.path.isdir(_SOCKET_FOLDER) else "localhost", PORT)]
    _secure(address, settings.tls, keys)
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


def _parsed(url: str) -> tuple[Address, dict[str, str]]:
    scheme, _, rest = url.partition(":")
    if not rest.startswith("//"):
        raise ValueError(f"url: `{scheme}:` is followed by `//`, as in {scheme}://user@host/database")
    main, _, query = rest[2:].partition("?")
    authority, _, database = main.partition("/")
    login, found, places = authority.rpartition("@")
    user, _, password = login.partition(":")
    address = Address(hosts=[_host(each) for each in places.split(",") if each])
    if found:
        address.user, address.password = unquote(user) or None, unquote(password) or None
    if "@" in database:
        raise ValueError(f"url: {_ESCAPED}")
    address.database = unquote(database) or None
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise ValueError("url: what follows `?` is no list of name=value") from None
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise ValueError("url: a parameter is given twice")
    if scheme.lower() == "postgresql+asyncpg" and "ssl" in keys:  # what SQLAlchemy hands to asyncpg
        keys["sslmode"] = keys.pop("ssl")
    return address, keys


def _host(text: str) -> tuple[str, int]:
    if text.startswith("["):
        name, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    else:
        name, _, port = text.partition(":")
    return unquote(name) or "localhost", _port(port)


def _port(text: str) -> int:
    if not text:
        return PORT
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ValueError(f"url: the port is no number from 1 to 65535; {_ESCAPED}")
    return int(text)


def _secure(address: Address, tls: TlsSettings | None, keys: dict[str, str]) -> None:
    """Decide how the connection is secured; the setting `tls` and `sslmode` of the url are two ways to say it."""
    if tls is not None:
        if "sslmode" in keys:
            raise ValueError("tls: the url says `sslmode` already; say it in one place")
        # linkly's `require` checks who signed the certificate, libpq's checks nothing.
        address.ssl = "verify-ca" if tls.mode == "require" else tls.mode
        address.ca_cert = tls.ca_cert if tls.ca_cert is not None else address.ca_cert
    elif "sslmode" not in keys:
        address.ssl = "disable" if address.is_local else "verify-ca"
    elif address.ssl == "require" and address.ca_cert is not None:
        address.ssl = "verify-ca"  # as libpq does when it has something to check against
    if keys.get("channel_binding") == "require":
        if address.ssl == "disable":
            raise ValueError("url: `channel_binding=require` needs TLS, and `sslmode` or `tls` turn it off")
        # The driver has no channel binding. It would prove that the server is the right one: so does the certificate.
        address.ssl = "verify-full"
    if address.direct_tls and address.ssl in ("disable", "allow", "prefer"):
        raise ValueError("url: `sslnegotiation=direct` needs `sslmode=require` at least")


# --- the keys of libpq --------------------------------------------------------------------------------------


def _host_key(address: Address, value: str) -> None:
    ports = [port for _, port in address.hosts]
    names = value.split(",")
    address.hosts = [(name, ports[at] if at < len(ports) else PORT) for at, name in enumerate(names) if name]


def _port_key(address: Address, value: str) -> None:
    ports = [_port(each) for each in value.split(",")]
    names = [host for host, _ in address.hosts] or ["localhost"]
    if len(ports) not in (1, len(names)):
        raise ValueError(f"url: `port` names {len(ports)} ports for {len(names)} hosts")
    address.hosts = [(name, ports[at % len(ports)]) for at, name in enumerate(names)]


def _text(name: str) -> Callable[[Address, str], None]:
    def read(address: Address, value: str) -> None:
        setattr(address, name, value or None)

    return read


def _setting(name: str) -> Callable[[Address, str], None]:
    def read(address: Address, value: str) -> None:
        address.server_settings = {**address.server_settings, name: value}

    return read


def _one_of(name: str, *allowed: str) -> Callable[[Address, str], None]:
    """What is understood and changes nothing here."""

    def read(_: Address, value: str) -> None:
        if value.lower() not in allowed:
            raise ValueError(f"url: `{name}={value}` is not supported; allowed: {', '.join(allowed)}")

    return read


def _ignored(_: Address, value: str) -> None:
    """How the network is watched is for the system to say."""


def _sslmode(address: Address, value: str) -> None:
    if value not in _MODES:
        raise ValueError(f"url: `sslmode={value}` is unknown; use one of {', '.join(_MODES)}")
    address.ssl = cast("SslMode", value)


def _root_cert(address: Address, value: str) -> None:
    address.ca_cert = None if value == "system" else value


def _client_cert(address: Address, value: str) -> None:
    address.client_cert = (value, None if address.client_cert is None else address.client_cert[1])


def _client_key(address: Address, value: str) -> None:
    address.client_cert = ("" if address.client_cert is None else address.client_cert[0], value)


def _negotiation(address: Address, value: str) -> None:
    _one_of("sslnegotiation", "postgres", "direct")(address, value)
    address.direct_tls = value == "direct"


def _connect_timeout(address: Address, value: str) -> None:
    if not value.isdecimal():
        raise ValueError(f"url: `connect_timeout={value}` is no number of seconds")
    address.connect_timeout_s = float(value) or CONNECT_TIMEOUT_S


def _session_attributes(address: Address, value: str) -> None:
    _one_of("target_session_attrs", "any", "primary", "read-write", "prefer-standby", "standby", "read-only")(
        address, value
    )
    address.session_attributes = value


_READERS: dict[str, Callable[[Address, str], None]] = {
    "host": _host_key,
    "port": _port_key,
    "user": _text("user"),
    "password": _text("password"),
    "dbname": _text("database"),
    "sslmode": _sslmode,
    "sslrootcert": _root_cert,
    "sslcert": _client_cert,
    "sslkey": _client_key,
    "sslnegotiation": _negotiation,
    "channel_binding": _one_of("channel_binding", "disable", "prefer", "require"),
    "connect_timeout": _connect_timeout,
    "application_name": _setting("application_name"),
    "options": _setting("options"),
    "target_session_attrs": _session_attributes,
    "client_encoding": _one_of("client_encoding", "utf8", "utf-8", "auto"),
    "gssencmode": _one_of("gssencmode", "disable", "prefer"),
    "keepalives": _ignored,
    "keepalives_idle": _ignored,
    "keepalives_interval": _ignored,
    "keepalives_count": _ignored,
}
"""How each key of the query is read; `port` after `host`, whatever the order in the url."""


def _shown(host: str) -> str:
    return quote(host, safe="") if host.startswith("/") else f"[{host}]" if ":" in host else host
