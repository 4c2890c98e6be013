"""The entry of a worker port in config.yaml: where workers of other processes connect."""

from __future__ import annotations

from typing import Any

import msgspec

from linkly.origin import is_loopback, read_origin
from linkly.schema import Settings
from linkly_engine import HOST, PORT
from linkly_engine.yaml.problems import Problems
from linkly_engine.yaml.tree import Tree
from linkly_engine.yaml.typed_block import checked_block


class Listener(msgspec.Struct, kw_only=True):
    """One worker port.

    Attributes:
        host: Where it listens.
        port: 0: any free one.
        handshake_timeout_s: How long a client may take to ask for its WebSocket.
        allowed_origins: Web pages that may connect, as browsers write their origins.
    """

    host: str = HOST
    port: int = PORT
    handshake_timeout_s: float = 10.0
    allowed_origins: list[str] = []


class _ListenerBlock(Settings):
    host: str = HOST
    port: int = PORT
    handshake_timeout_ms: int = 10_000
    allowed_origins: list[str] = []
    allow_unauthenticated: bool = False
    rbac: Any = None
    middleware_function_id: Any = None


def read_listener(tree: Tree, path: str, block: Any, ports: dict[tuple[str, int], str]) -> Listener:
    """Read the block of a worker port.

    Args:
        tree: The file.
        path: Where the entry stands in it.
        block: Its `config:`, `None` if there is none.
        ports: Addresses of the ports before this one -> where they stand; this one is added.

    Raises:
        ConfigError: Everything that is wrong with it.
    """
    problems = Problems()
    given = checked_block(block, _ListenerBlock, tree, f"{path}.config", problems) or _ListenerBlock()
    for key in ("rbac", "middleware_function_id"):
        if getattr(given, key) is not None:
            reason = (
                "is not supported by this version, and the port would let in everybody whom this keeps out; remove it "
                "only if nobody else reaches the port"
            )
            problems.add(tree.error(f"{path}.config.{key}", reason))
    if not 0 <= given.port <= 65535:
        problems.add(tree.error(f"{path}.config.port", f"{given.port} is no port; allowed: 0 (any free one) to 65535"))
    if given.handshake_timeout_ms < 1:
        reason = f"{given.handshake_timeout_ms}: must be at least 1"
        problems.add(tree.error(f"{path}.config.handshake_timeout_ms", reason))
    if not is_loopback(given.host) and not given.allow_unauthenticated:
        reason = (
            f"on `{given.host}` whoever reaches this port commands the engine: workers do not authenticate themselves "
            "yet. Listen on 127.0.0.1, or let a firewall stand before the port and write `allow_unauthenticated: true`"
        )
        problems.add(tree.error(f"{path}.config.host", reason))
    origins = _origins(tree, f"{path}.config.allowed_origins", given.allowed_origins, problems)
    problems.check()
    other = ports.setdefault((given.host, given.port), path)
    if given.port and other != path:
        raise tree.error(path, f"listens on {given.host}:{given.port}, as {other} does; give it another port")
    return Listener(
        host=given.host,
        port=given.port,
        handshake_timeout_s=given.handshake_timeout_ms / 1000,
        allowed_origins=origins,
    )


def _origins(tree: Tree, path: str, given: list[str], problems: Problems) -> list[str]:
    read: list[str] = []
    for index, origin in enumerate(given):
        try:
            if origin == "*":
                raise ValueError("`*` would let every web page command the engine; name the pages' origins")
            read.append(read_origin(origin))
        except ValueError as error:
            problems.add(tree.error(f"{path}[{index}]", str(error)))
    return read
