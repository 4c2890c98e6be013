"""Which peers are proxies whose word about the client is taken. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from linkly.origin import is_loopback


class Proxies:
    """The proxies that are trusted."""

    def __init__(self, listed: Iterable[str]) -> None:
        self._networks = [ipaddress.ip_network(address) for address in listed]

    def is_local_client(self, address: str) -> bool:
        """Return whether a peer is a program on this machine, a browser perhaps, and none of the proxies."""
        return is_loopback(address) and not any(ipaddress.ip_address(address) in network for network in self._networks)


def check_network(address: str) -> None:
    """Check a proxy of the settings.

    Raises:
        ValueError: It is neither an address nor a network.
    """
    try:
        ipaddress.ip_network(address)
    except ValueError as error:
        raise ValueError(
            f"trusted_proxies: `{address}` is neither an IP address nor a network such as `10.0.0.0/8`: {error}"
        ) from error


def plain_address(given: str) -> str:
    """Return a peer's address as it is written everywhere else: on `::`, IPv4 clients come as `::ffff:127.0.0.1`."""
    if not given.startswith("::ffff:"):
        return given
    mapped = ipaddress.IPv6Address(given).ipv4_mapped
    return given if mapped is None else str(mapped)
