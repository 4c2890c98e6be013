"""Where a server is and how it is spoken to, as far as urls of all servers say it alike.

That is `scheme://user:password@host:port/database?name=value`. It opens nothing. No text that it makes holds a
password, and no error quotes what may be a part of one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal, TypeVar
from urllib.parse import parse_qsl, quote, unquote

import msgspec

from linkly_workers.database.backends import TlsSettings

SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
CONNECT_TIMEOUT_S = 10.0

_ESCAPED = "a `/`, `:`, `?` or `@` of a password is written %2F, %3A, %3F, %40"
_LOCAL = ("localhost", "127.0.0.1", "::1")


class ServerAddress(msgspec.Struct, kw_only=True):
    """How one server, or the first of several that answers, is reached.

    Attributes:
        scheme: What its url begins with.
        hosts: Name or address and port of each; a name that begins with `/` is that of a socket, or of its folder.
        user: Who connects; `None`: what the driver takes.
        password: His password; `None`: there is none, or it is found elsewhere.
        database: Which one; `None`: the url names none.
        ssl: How the connection is secured, in libpq's words: `require` checks nothing, `verify-ca` who has signed the
            certificate, `verify-full` also whether it is that of the host.
        ca_cert: File of the certificates that are trusted; `None`: those that the system trusts.
        client_cert: Files of a certificate for this side and of its key.
        connect_timeout_s: How long a connection may take to be made.
    """

    scheme: ClassVar[str]

    hosts: list[tuple[str, int]]
    user: str | None = None
    password: str | None = None
    database: str | None = None
    ssl: SslMode = "disable"
    ca_cert: str | None = None
    client_cert: tuple[str, str | None] | None = None
    connect_timeout_s: float = CONNECT_TIMEOUT_S

    @property
    def is_local(self) -> bool:
        """Whether nothing of it leaves this machine."""
        return all(host.startswith("/") or host in _LOCAL for host, _ in self.hosts)

    @property
    def url(self) -> str:
        """Where it is, for listings and errors: without a password."""
        user = "" if self.user is None else f"{quote(self.user, safe='')}@"
        hosts = ",".join(f"{_shown(host)}:{port}" for host, port in self.hosts)
        return f"{self.scheme}://{user}{hosts}/{quote(self.database or '', safe='')}"


A = TypeVar("A", bound=ServerAddress)

Reader = Callable[[A, str], None]
"""Takes the value of one key of the query; raises `ValueError` if it cannot be followed."""


def parsed(url: str, port: int, kind: type[A]) -> tuple[A, dict[str, str]]:
    """Return the address of a url, and the keys of its query, which are still to be read; `port` where it names none.

    Raises:
        ValueError: It cannot be read.
    """
    scheme, _, rest = url.partition(":")
    if not rest.startswith("//"):
        raise ValueError(f"url: `{scheme}:` is followed by `//`, as in {scheme}://user@host/database")
    main, _, query = rest[2:].partition("?")
    authority, _, database = main.partition("/")
    login, found, places = authority.rpartition("@")
    user, _, password = login.partition(":")
    address = kind(hosts=[_host(each, port) for each in places.split(",") if each])
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
    return address, keys


def read_keys(address: A, keys: dict[str, str], readers: dict[str, Reader[A]]) -> None:
    """Read the keys of a query, in the order of their readers.

    Raises:
        ValueError: One has no reader, or its value cannot be followed.
    """
    for name in keys:
        if name not in readers:
            raise ValueError(f"url: `{name}` is not a parameter that linkly knows; it knows {', '.join(readers)}")
    for name, read in readers.items():
        if name in keys:
            read(address, keys[name])


def port_of(text: str, default: int) -> int:
    """Return a port as it is written.

    Raises:
        ValueError: It is none.
    """
    if not text:
        return default
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ValueError(f"url: the port is no number from 1 to 65535; {_ESCAPED}")
    return int(text)


def secure(address: ServerAddress, tls: TlsSettings | None, said: str | None) -> None:
    """Decide how the connection is secured; the setting `tls` and the key `said` of the url are two ways to say it.

    Raises:
        ValueError: It is said in both places.
    """
    if tls is not None:
        if said is not None:
            raise ValueError(f"tls: the url says `{said}` already; say it in one place")
        # linkly's `require` checks who signed the certificate, that of the servers' own clients checks nothing.
        address.ssl = "verify-ca" if tls.mode == "require" else tls.mode
        address.ca_cert = tls.ca_cert if tls.ca_cert is not None else address.ca_cert
    elif said is None:
        address.ssl = "disable" if address.is_local else "verify-ca"
    elif address.ssl == "require" and address.ca_cert is not None:
        address.ssl = "verify-ca"  # as libpq does when it has something to check against


def _host(text: str, default: int) -> tuple[str, int]:
    if text.startswith("["):
        name, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    else:
        name, _, port = text.partition(":")
    return unquote(name) or "localhost", port_of(port, default)


def _shown(host: str) -> str:
    return quote(host, safe="") if host.startswith("/") else f"[{host}]" if ":" in host else host


# --- keys that several kinds of servers have -----------------------------------------------------------------


def as_text(name: str) -> Reader[ServerAddress]:
    """Return what reads a text into an attribute."""

    def read(address: ServerAddress, value: str) -> None:
        setattr(address, name, value or None)

    return read


def one_of(name: str, *allowed: str) -> Reader[ServerAddress]:
    """Return what understands some values of a key, which change nothing here."""

    def read(_: ServerAddress, value: str) -> None:
        if value.lower() not in allowed:
            raise ValueError(f"url: `{name}={value}` is not supported; allowed: {', '.join(allowed)}")

    return read


def client_cert(address: ServerAddress, value: str) -> None:
    """Read the file of this side's certificate."""
    address.client_cert = (value, None if address.client_cert is None else address.client_cert[1])


def client_key(address: ServerAddress, value: str) -> None:
    """Read the file of the key of this side's certificate."""
    address.client_cert = ("" if address.client_cert is None else address.client_cert[0], value)


def connect_timeout(address: ServerAddress, value: str) -> None:
    """Read how long a connection may take to be made."""
    if not value.isdecimal():
        raise ValueError(f"url: `connect_timeout={value}` is no number of seconds")
    address.connect_timeout_s = float(value) or CONNECT_TIMEOUT_S
