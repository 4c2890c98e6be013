"""Which IP addresses lead into the public internet.

Python's own `is_global` knows what was registered when that Python was released, so two versions of it judge one
address differently. Here the networks are spelled out, from IANA's special-purpose address registries (RFC 6890), and
all of them are refused that are not meant for servers which everybody reaches.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

_IPV4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network (RFC 791)
        "10.0.0.0/8",  # private (RFC 1918)
        "100.64.0.0/10",  # shared by the customers of a provider (RFC 6598)
        "127.0.0.0/8",  # loopback (RFC 1122)
        "169.254.0.0/16",  # link-local, and the metadata of clouds (RFC 3927)
        "172.16.0.0/12",  # private (RFC 1918)
        "192.0.0.0/24",  # protocol assignments (RFC 6890)
        "192.0.2.0/24",  # documentation (RFC 5737)
        "192.88.99.0/24",  # relays of 6to4, given up (RFC 7526)
        "192.168.0.0/16",  # private (RFC 1918)
        "198.18.0.0/15",  # benchmarks (RFC 2544)
        "198.51.100.0/24",  # documentation (RFC 5737)
        "203.0.113.0/24",  # documentation (RFC 5737)
        "224.0.0.0/4",  # multicast (RFC 5771)
        "240.0.0.0/4",  # reserved, and broadcast (RFC 1112, 8190)
    )
)

_UNICAST = IPv6Network("2000::/3")
"""The only part of IPv6 that is given to anybody for the public internet (RFC 4291)."""

_IPV6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID (RFC 2928)
        "2001:db8::/32",  # documentation (RFC 3849)
        "3fff::/20",  # documentation (RFC 9637)
    )
)

_SIX_TO_FOUR = IPv6Network("2002::/16")
_NAT64 = IPv6Network("64:ff9b::/96")
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)


def address_in(host: str) -> IPv4Address | IPv6Address | None:
    """Return the address that a host is, IPv6 in brackets; `None` if it is a name."""
    try:
        return ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Return whether an address, and an IPv4 address embedded in it, belongs to the public internet."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _IPV4)
    number = int(address)
    last = IPv4Address(number & 0xFFFF_FFFF)
    if address in _NAT64:  # RFC 6052
        return is_public(last)
    if address in _SIX_TO_FOUR:  # RFC 3056
        return is_public(IPv4Address(number >> 80 & 0xFFFF_FFFF))
    if number >> 32 & 0xFFFF_FFFF in _ISATAP and not is_public(last):  # RFC 5214
        return False
    return address in _UNICAST and not any(address in network for network in _IPV6)
