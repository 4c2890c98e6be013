"""Where a MySQL or MariaDB server is and how it is spoken to, out of one entry of `databases`.

MySQL has no form of a url of its own, so those of its drivers and providers are understood, and a key that linkly
cannot follow is refused by its name. It knows no driver and opens nothing.
"""

from __future__ import annotations

import os
from typing import ClassVar

from linkly_workers.database._server.address import (
    Reader,
    ServerAddress,
    SslMode,
    client_cert,
    client_key,
    connect_timeout,
    one_of,
    parsed,
    read_keys,
    secure,
)
from linkly_workers.database.backends import OneDatabase

PORT = 3306
SCHEMES = tuple(
    scheme
    for name in ("mysql", "mariadb")
    for scheme in (name, f"{name}+asyncmy", f"{name}+aiomysql", f"{name}+pymysql", f"{name}+mysqldb")
)
"""Those of SQLAlchemy name a driver: another one than ours has nothing to say to the server."""

_SOCKET = "/run/mysqld/mysqld.sock"
_STRENGTHS: tuple[SslMode, ...] = ("disable", "require", "verify-ca", "verify-full")
_MODES: dict[str, SslMode] = {
    "disabled": "disable",
    "required": "require",
    "verify-ca": "verify-ca",
    "verify-identity": "verify-full",
    "disable": "disable",
    "require": "require",
    "verify-full": "verify-full",
}
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")


class Address(ServerAddress, kw_only=True):
    """How a server is reached. Its only host is a socket if it begins with `/`; the database is always named."""

    scheme: ClassVar[str] = "mysql"


def address_of(settings: OneDatabase) -> Address:
    """Return the address of an entry.

    Raises:
        ValueError: The url cannot be used; the message starts with the key and holds no password.
    """
    address, written = parsed(settings.url, PORT, Address)
    keys = {_known(name): value for name, value in written.items()}
    if len(keys) != len(written):
        raise ValueError("url: a parameter is given twice")
    read_keys(address, keys, _READERS)
    if len(address.hosts) > 1:
        raise ValueError("url: names several hosts, and linkly connects to one; name that of a proxy in front of them")
    if not address.hosts:
        address.hosts = [(_SOCKET if os.path.exists(_SOCKET) else "localhost", PORT)]
    if address.database is None:
        raise ValueError(f"url: names no database, as in {settings.url.partition(':')[0]}://user@host/database")
    secure(address, settings.tls, _said(address, settings, written))
    return address


def _known(name: str) -> str:
    """Return a key as `_READERS` has it: `ssl-mode`, `ssl_mode`, `sslMode` and `sslmode` are one."""
    found = name.lower().replace("_", "-")
    if not found.startswith("ssl"):
        return name
    return found if found.startswith("ssl-") or found in _READERS else f"ssl-{found[3:]}"


def _said(address: Address, settings: OneDatabase, written: dict[str, str]) -> str | None:
    """Return the key that says how the connection is secured; a certificate says it if nothing else does."""
    for name in written:
        if _known(name) in _HOW_SECURED:
            return name
    if settings.tls is None and (address.ca_cert is not None or address.client_cert is not None):
        address.ssl = "require" if address.ca_cert is not None else "verify-ca"
        return "ssl-ca"
    return None


# --- the keys of drivers and providers -----------------------------------------------------------------------


def _socket(address: Address, value: str) -> None:
    if not value.startswith("/"):
        raise ValueError("url: `unix_socket` is the path of a socket, which begins with `/`")
    address.hosts = [(value, PORT)]


def _at_least(address: Address, mode: SslMode) -> None:
    if _STRENGTHS.index(mode) > _STRENGTHS.index(address.ssl):
        address.ssl = mode


def _ssl_mode(address: Address, value: str) -> None:
    word = value.lower().replace("_", "-")
    if word in ("preferred", "prefer", "allow"):
        raise ValueError(f"url: `ssl-mode={value}` may go without TLS and not say so; write REQUIRED or DISABLED")
    if word not in _MODES:
        known = ("DISABLED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")
        raise ValueError(f"url: `ssl-mode={value}` is unknown; use one of {', '.join(known)}")
    _at_least(address, _MODES[word])


def _ssl(address: Address, value: str) -> None:
    """Read `true` or `false`, or what mysql2 of Node takes."""
    word = value.lower().replace(" ", "")
    modes: dict[str, SslMode] = {
        **dict.fromkeys(_TRUE, "verify-ca"),
        **dict.fromkeys(_FALSE, "disable"),
        '{"rejectunauthorized":true}': "verify-full",
        '{"rejectunauthorized":false}': "require",
        "{}": "verify-full",
    }
    if word not in modes:
        raise ValueError(f"url: `ssl={value}` is unknown; write `ssl-mode=REQUIRED`, VERIFY_CA or VERIFY_IDENTITY")
    _at_least(address, modes[word])


def _verify(name: str, mode: SslMode) -> Reader[Address]:
    def read(address: Address, value: str) -> None:
        one_of(name, *_TRUE, *_FALSE)(address, value)
        _at_least(address, mode if value.lower() in _TRUE else "require")

    return read


def _accept(address: Address, value: str) -> None:
    """Read how Prisma says it."""
    one_of("sslaccept", "strict", "accept_invalid_certs")(address, value)
    _at_least(address, "verify-full" if value.lower() == "strict" else "require")


def _ca(address: Address, value: str) -> None:
    address.ca_cert = value or None


_READERS: dict[str, Reader[Address]] = {
    "unix_socket": _socket,
    "socket": _socket,
    "ssl-mode": _ssl_mode,
    "ssl": _ssl,
    "sslaccept": _accept,
    "ssl-verify-cert": _verify("ssl-verify-cert", "verify-ca"),
    "ssl-verify-identity": _verify("ssl-verify-identity", "verify-full"),
    "ssl-ca": _ca,
    "ssl-cert": client_cert,
    "ssl-key": client_key,
    "connect_timeout": connect_timeout,
    "charset": one_of("charset", "utf8mb4", "utf8"),
}
_HOW_SECURED = frozenset(("ssl-mode", "ssl", "sslaccept", "ssl-verify-cert", "ssl-verify-identity"))
