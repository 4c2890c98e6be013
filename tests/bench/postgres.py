"""A PostgreSQL server of its own for one side of a row: durable, and its processor time shown."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench.row import Missing

from support.postgres_server import MISSING, PostgresServer, binaries, running_server

SETTINGS = ("fsync=on", "synchronous_commit=on", "shared_buffers=128MB", "max_connections=60")
POOL = 10
"""Connections of each side; the default of linkly and of asyncpg."""


@contextmanager
def server() -> Iterator[PostgresServer]:
    """Run a server until the block ends."""
    if binaries() is None:
        raise Missing(MISSING)
    with running_server(*SETTINGS) as running:
        yield running


def sql(running: PostgresServer, text: str) -> str:
    """Run statements; return the rows of the last one, values apart by `|`."""
    command = [str(running.bin / "psql"), running.url, "-qAt", "-v", "ON_ERROR_STOP=1", "-c", text]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(f"{text}: {ran.stderr}")
    return ran.stdout.strip()
