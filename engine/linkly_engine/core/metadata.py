"""What a client says about itself in `engine::workers::register`, as it comes over the wire."""

from __future__ import annotations

from sys import intern
from typing import Any

import msgspec

from linkly_engine.text import stripped

MAX_CHARACTERS = 280


class WorkerMetadata(msgspec.Struct, kw_only=True):
    """Metadata of one client, every field optional.

    Attributes:
        runtime: For example node, python, rust, browser.
        version: Of its SDK.
        name: Of the worker; host:pid where the program gave none.
        description: For people.
        os: Operating system.
        pid: Process id; a worker without one is hidden from listings.
        isolation: How it is kept apart.
        namespace: Where its registrations go; default: `default`.
        features: What its SDK understands, for example `large-messages.v1`.
        telemetry: Language, project and framework.
    """

    runtime: str | None = None
    version: str | None = None
    name: str | None = None
    description: str | None = None
    os: str | None = None
    pid: int | None = None
    isolation: str | None = None
    namespace: str | None = None
    features: list[str] | None = None
    telemetry: dict[str, Any] | None = None


def clean(text: str | None) -> str | None:
    """Strip control and bidirectional characters and cut to 280 characters: it ends up on terminals."""
    # Most workers of one machine say the same: kept once.
    return None if text is None else intern(stripped(text)[:MAX_CHARACTERS])
