"""A client of linkly that speaks what a benchmark wants: `native` or `json`."""

from typing import Any

from linkly import Client
from linkly.wire import dialer

# The other side of a comparison may be an older checkout, which has another name for it.
PortDialer: Any = getattr(dialer, "PortDialer", None) or vars(dialer)["WebSocketDialer"]


def client(url: str, kind: str, name: str) -> Client:
    """Return a client that is not connected yet."""
    return Client(url, name=name, dialer=PortDialer(url, native=kind == "native"))
