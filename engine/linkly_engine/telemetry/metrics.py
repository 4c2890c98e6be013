"""The newest gauges of each worker: `latest_metrics` of `engine::workers::info` (docs/protocol.md 8.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from linkly_engine.telemetry.otlp import Point

PREFIX = "iii.worker."
LOOK_BACK_MS = 120_000
"""Older numbers are not shown: clients send every 60 s, so two were missed."""

MAX_NAMES = 64
"""How many different gauges of one worker are kept."""


class WorkerGauges:
    """Worker id -> gauge -> value.

    Args:
        is_connected: Returns whether a worker with this id is connected: of others nothing is kept.
    """

    def __init__(self, is_connected: Callable[[str], bool]) -> None:
        self._is_connected = is_connected
        self._latest: dict[str, dict[str, Any]] = {}

    def __len__(self) -> int:
        return len(self._latest)

    def add(self, points: list[Point], now_ms: int) -> None:
        """Take the gauges out of a metrics frame."""
        for point in points:
            worker_id = point.attributes.get("worker.id")
            if not point.name.startswith(PREFIX) or not isinstance(worker_id, str) or not self._is_connected(worker_id):
                continue
            if worker_id not in self._latest:
                self._latest = {known: row for known, row in self._latest.items() if self._is_connected(known)}
            row = self._latest.setdefault(worker_id, {})
            name = point.name[len(PREFIX) :].replace(".", "_")
            if name in row or len(row) < MAX_NAMES:
                row[name] = int(point.value) if float(point.value).is_integer() else point.value
            row["timestamp_ms"] = point.time_ns // 1_000_000 if point.time_ns is not None else now_ms

    def of(self, worker_id: str, runtime: str | None, now_ms: int) -> dict[str, Any] | None:
        """Return a worker's numbers, `None` if there are no recent ones."""
        row = self._latest.get(worker_id)
        if row is None or now_ms - row["timestamp_ms"] > LOOK_BACK_MS:
            return None
        return {**row, "runtime": runtime}
