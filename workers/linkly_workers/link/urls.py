"""Which addresses a short link may lead to.

An address is judged as browsers read it (WHATWG URL, by the ada library): `http://0x7f.1`, `http://2130706433` and
`http://①②⑦.0.0.1` are all 127.0.0.1 to them. It is kept as it was given where that is plain ASCII, else in the form
a browser would send it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from ada_url import URL

from linkly.errors import LinklyError

MAX_CHARACTERS = 8192

_SCHEME = re.compile(r"https?://", re.IGNORECASE)
_OTHER_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:(?!\d)", re.IGNORECASE)
_LOCAL_NAMES = ("localhost", "local", "localdomain", "internal", "intranet", "lan", "home", "corp", "private", "arpa")
"""Top-level names that never lead into the public internet (RFC 6761, 6762, 8375; ICANN's reserved names)."""


class InvalidUrl(LinklyError):
    """The address cannot be a link's target."""

    code = "INVALID_URL"


_NAT64 = IPv6Network("64:ff9b::/96")
"""IPv4 addresses inside IPv6 (RFC 6052)."""


def check_url(given: str, *, own_hosts: Collection[str] = (), allow_private: bool = False) -> str:
    """Return the address a link leads to; one without a scheme gets `https://`.

    Args:
        given: As somebody typed it.
        own_hosts: Lower-case host names of this shortener: a link to itself would go round in circles.
        allow_private: Allow targets in this machine and its networks.

    Raises:
        InvalidUrl: It is no http(s) address, leads where no link may lead, or would do harm in a `Location` header.
    """
    if not given or len(given) > MAX_CHARACTERS:
        raise InvalidUrl(f"url has {len(given)} characters; allowed: 1 to {MAX_CHARACTERS}")
    if any(letter.isspace() or not letter.isprintable() for letter in given):
        raise InvalidUrl("url has white space, control or invisible characters in it; percent-encode them")
    if "\\" in given:
        raise InvalidUrl("url has a backslash in it, which browsers take for a slash; write `/` or `%5C`")
    if not _SCHEME.match(given) and _OTHER_SCHEME.match(given):
        if given.lower().startswith(("http:", "https:")):
            raise InvalidUrl(f"url {_shown(given)} needs two slashes after its scheme, as in https://example.com")
        raise InvalidUrl(f"url has scheme `{given.split(':', 1)[0][:32]}`; allowed: http, https")
    url = given if _SCHEME.match(given) else f"https://{given}"
    if not _authority(url):
        raise InvalidUrl(f"url {_shown(given)} has no host")
    try:
        parsed = URL(url)
    except ValueError as error:
        raise InvalidUrl(f"url {_shown(given)} is malformed: its host or its port cannot be read") from error
    if parsed.username or parsed.password or "@" in _authority(url):
        raise InvalidUrl("url carries a user name or a password; links are public")
    host = parsed.hostname.rstrip(".")
    if not host:
        raise InvalidUrl(f"url {_shown(given)} has no host")
    if host in own_hosts:
        raise InvalidUrl(f"url leads to `{host}`, which is this shortener itself")
    if not allow_private:
        _check_public(host)
    return url if url.isascii() else parsed.href


def _check_public(host: str) -> None:
    address = _address(host)
    if address is None:
        if "." not in host or host.rsplit(".", 1)[1] in _LOCAL_NAMES:
            raise InvalidUrl(f"url leads to `{host}`, a name of this machine or network; links lead to public hosts")
    elif not _is_public(address):
        raise InvalidUrl(f"url leads to {address}, a private, loopback or reserved address; links lead to public hosts")


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None and not _is_public(inner):
            return False
        if int(address) >> 32 == 0:  # `::a.b.c.d`, long deprecated, still read by some
            return False
    return address.is_global and not address.is_multicast


def _authority(url: str) -> str:
    return re.split(r"[/?#]", url.split("//", 1)[1], maxsplit=1)[0]


def _shown(url: str) -> str:
    return repr(url if len(url) <= 100 else url[:97] + "...")
