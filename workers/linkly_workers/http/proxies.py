"""Which peers are proxies whose word about the client is taken. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from linkly.origin import is_loopback

SCHEMES = ("http", "https")


class Proxies:
    """The proxies that are trusted."""

    def __init__(self, listed: Iterable[str]) -> None:
        self._networks = [ipaddress.ip_network(address) for address in listed]

    def trusts(self, address: str) -> bool:
        """Return whether an address is one of them; what is no address is none."""
        if not self._networks:
            return False
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)

    def is_local_client(self, address: str) -> bool:
        """Return whether a peer is a program on this machine, a browser perhaps, and none of the proxies."""
        return is_loopback(address) and not self.trusts(address)

    def client_of(self, fields: list[tuple[bytes, bytes]], peer: str, scheme: str) -> tuple[str, str]:
        """Return address and scheme of whoever asked a trusted proxy.

        Each proxy adds the address that it was asked from, so the client is the last one that is no proxy.

        Args:
            fields: Header lines: `X-Forwarded-For` and `X-Forwarded-Proto` are read.
            peer: The proxy.
            scheme: What it asked with.
        """
        forwarded: list[str] = []
        for name, value in fields:
            if name == b"x-forwarded-for":
                forwarded += value.decode("latin-1").split(",")
            elif name == b"x-forwarded-proto":
                said = value.decode("latin-1").strip()
                scheme = said if said in SCHEMES else scheme
        addresses = [address for each in forwarded if (address := _without_port(each.strip()))]
        if not addresses:
            return peer, scheme
        return next((each for each in reversed(addresses) if not self.trusts(each)), addresses[0]), scheme


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


def _without_port(address: str) -> str:
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address
