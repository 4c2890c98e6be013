"""A client of linkly that speaks what a benchmark wants: `native` or `json`."""

from linkly import Client
from linkly.wire.dialer import WebSocketDialer


def client(url: str, kind: str, name: str) -> Client:
    """Return a client that is not connected yet."""
    return Client(url, name=name, dialer=WebSocketDialer(url, native=kind == "native"))
