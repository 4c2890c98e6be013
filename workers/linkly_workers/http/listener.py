"""The socket that a gateway listens on; the next gateway on the same address goes on with a copy of it."""

from __future__ import annotations

import socket

from linkly.errors import ConfigError

BACKLOG = 2048


class Listener:
    """A listening socket."""

    def __init__(self, host: str, port: int, opened: socket.socket) -> None:
        self._address = host, port
        self.socket = opened

    @property
    def url(self) -> str:
        """Where it listens, also when port 0 was asked for."""
        return url_of(self._address[0], self.socket.getsockname()[1])

    def copy(self) -> Listener:
        """Return a copy, which goes on when this one is closed."""
        return Listener(*self._address, self.socket.dup())

    def moved(self, host: str, port: int) -> Listener:
        """Return a copy, or a new listener if the address is another one.

        Raises:
            ConfigError: The address cannot be listened on.
        """
        if self._address == (host, port) and self.socket.fileno() >= 0:
            return self.copy()
        if self._address[1] == port:
            self.close()  # `0.0.0.0` cannot be had beside `127.0.0.1`
        # Else it stays open until that one listens: if it cannot, the gateway before goes on with it.
        opened = listen(host, port)
        self.close()
        return opened

    def close(self) -> None:
        """Close it; copies stay open."""
        self.socket.close()


def listen(host: str, port: int) -> Listener:
    """Listen; connections wait in the backlog until they are accepted.

    Raises:
        ConfigError: The address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
        opened.listen(BACKLOG)
        opened.setblocking(False)
    except OSError as error:
        opened.close()
        raise ConfigError(
            f"the http gateway cannot listen on {host}:{port}: {error.strerror or error}; stop what uses the port, "
            "or choose another with `port:` in the config of worker `http` (0: any free one)"
        ) from error
    return Listener(host, port, opened)


def url_of(host: str, port: int) -> str:
    """Return the URL of a gateway's address."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
