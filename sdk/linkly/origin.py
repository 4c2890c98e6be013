"""Where a web page comes from: origins and hosts as browsers write them (WHATWG HTML 7.1.1, RFC 6454). Pure.

The engine asks it for its sockets, the gateway for requests: `read_origin` and `read_host` read what a person wrote
into a setting, `host_of` what a header names, `is_loopback` an address.
"""

from __future__ import annotations

import ipaddress
import re

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""The names by which a browser on this machine reaches this machine."""

_HOST = r"(?:\[[0-9a-f:.]+\]|[a-z0-9!$&'()+;=_~-]+(?:\.[a-z0-9!$&'()+;=_~-]+)*)"
"""RFC 3986 3.2.2, but for what only looks like a host here: `*`, a list with commas, percent-encoding."""
_ORIGIN = re.compile(rf"([a-z][a-z0-9+.-]*)://({_HOST})\.?(?::([0-9]{{1,5}}))?")
_AUTHORITY = re.compile(rf"({_HOST})\.?(?::[0-9]{{1,5}})?")
_DEFAULT_PORTS = {"http": "80", "https": "443"}


def read_origin(text: str) -> str:
    """Return an origin as a browser writes it: lower case, without its scheme's own port.

    Raises:
        ValueError: It is none.
    """
    if text == "null":
        raise ValueError(
            "`null` is what a browser says for every page that hides where it comes from, so it names nobody"
        )
    found = _ORIGIN.fullmatch(_ascii(text))
    if found is None:
        raise ValueError(
            f"`{text}` is no origin; write scheme, host and port, nothing behind them: `https://app.example`, "
            "`http://localhost:5173`"
        )
    scheme, host, port = found.groups()
    return f"{scheme}://{host}" if port is None or _DEFAULT_PORTS.get(scheme) == port else f"{scheme}://{host}:{port}"


def read_host(text: str) -> str:
    """Return the host that a setting names, as `host_of` returns one.

    Raises:
        ValueError: It is none.
    """
    if text.count(":") > 1 and not text.startswith("["):
        text = f"[{text}]"
    found = _AUTHORITY.fullmatch(_ascii(text))
    if found is None:
        raise ValueError(f"`{text}` is no host; write a name or an address, without scheme and path: `s.example`")
    return found[1]


def host_of(authority: str) -> str:
    """Return the host of a Host header, or of an origin behind its `//`: lower case, IPv6 in brackets, no port."""
    host = authority.lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].removesuffix(".")


def is_loopback(address: str) -> bool:
    """Return whether an address, or the name `localhost`, is this machine alone; other names are not looked up."""
    if address.lower() == "localhost":
        return True
    try:
        read = ipaddress.ip_address(address.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    mapped = read.ipv4_mapped if isinstance(read, ipaddress.IPv6Address) else None
    return (read if mapped is None else mapped).is_loopback


def _ascii(text: str) -> str:
    """Return an origin or a host in lower case, and in IDNA's form if it is not ASCII; unchanged if it has none."""
    if text.isascii():
        return text.lower()
    scheme, found, rest = text.rpartition("//")
    try:
        return scheme.lower() + found + rest.encode("idna").decode().lower()
    except UnicodeError:
        return text
