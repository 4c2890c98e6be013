"""Where the engine of a project is reached: the worker port that its config.yaml names.

Asked by every command, `linkly trigger` included, so that the port of a file in its usual form is found by looking at
its lines; only a file that says it otherwise (placeholders, flow style) is read as the engine reads it.
"""

from __future__ import annotations

from os import environ

from linkly_engine import CONFIG_FILE, HOST, LISTENER, PORT
from linkly_engine.cli.usage import UsageError

TYPE_CHECKING = False  # type checkers take this name for true; importing it from typing costs 5 ms
if TYPE_CHECKING:
    from pathlib import Path

LOCALHOST = "localhost"
LOCAL_HOSTS = ("", "0.0.0.0", "::", "::1", "127.0.0.1", "localhost")
"""Hosts of a listener that this machine reaches as `localhost`."""


class Where:
    """Where an engine is looked for.

    Attributes:
        address: Host name or address.
        port: Worker port.
        doubt: Why the port is a guess, a sentence for the error that no engine answers; empty if it is none.
    """

    def __init__(self, address: str, port: int, doubt: str = "") -> None:
        self.address = address
        self.port = port
        self.doubt = doubt


def find(config: str | Path | None = None, address: str | None = None, port: int | None = None) -> Where:
    """Return where the engine is: from the command line, else LINKLY_PORT, else the project's file, else iii's port.

    Args:
        config: The project's file; default: `config.yaml` in the working directory.
        address: As given; default: what the file says.
        port: Likewise.

    Raises:
        UsageError: LINKLY_PORT is no port.
    """
    if port is not None:
        return Where(address or LOCALHOST, port)
    written = environ.get("LINKLY_PORT")
    if written is not None:
        if not (written.isascii() and written.isdigit() and int(written) <= 65535):
            raise UsageError(f"environment variable LINKLY_PORT: `{written}` is no port")
        return Where(address or LOCALHOST, int(written))
    found = _of_file(config or CONFIG_FILE)
    if address is not None:
        found.address = address
    return found


def _of_file(path: str | Path) -> Where:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, ValueError):  # there is no project, or the engine says what is wrong with its file
        return Where(LOCALHOST, PORT)
    if LISTENER not in text:
        return Where(LOCALHOST, PORT)
    return _of_lines(text.split("\n")) or _as_the_engine_reads_it(path)


def _of_lines(lines: list[str]) -> Where | None:
    """Find the first listener in a file that is written in the usual way; `None`: it is not."""
    host, port, indent = HOST, PORT, -1
    for line in lines:
        plain = line.split(" #", 1)[0].rstrip()
        word = plain.lstrip()
        if not word or word[0] == "#":
            continue
        depth = len(plain) - len(word)
        if indent < 0:
            if word == f"- name: {LISTENER}":
                indent = depth
            elif LISTENER in word:
                return None
            continue
        if depth <= indent:
            break
        key, _, value = word.partition(":")
        value = value.strip()
        if key == "host" and value and value.replace(".", "").replace("-", "").isalnum():
            host = value
        elif key == "port" and value.isascii() and value.isdigit():
            port = int(value)
        elif not (key == "config" and not value) and key in ("name", "config", "host", "port"):
            return None
    return None if indent < 0 else _listening(host, port)


def _as_the_engine_reads_it(path: str | Path) -> Where:
    from pathlib import Path

    from linkly.errors import ConfigError
    from linkly_engine.project.config import load

    try:
        first = load(Path(path)).listeners[0]
    except ConfigError as error:
        return Where(LOCALHOST, PORT, f"The worker port of {path} is not known: {error.message}")
    return _listening(first.host, first.port)


def _listening(host: str, port: int) -> Where:
    address = LOCALHOST if host in LOCAL_HOSTS else host
    if port == 0:
        doubt = (
            "The config says `port: 0`, any free one: give the port that the engine showed with --port or LINKLY_PORT"
        )
        return Where(address, PORT, doubt)
    return Where(address, port)
