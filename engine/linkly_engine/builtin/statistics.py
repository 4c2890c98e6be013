"""How full every buffer of the engine is: what `engine::statistics` answers."""

from __future__ import annotations

from typing import Any

from linkly_engine.builtin.connections import Connections
from linkly_engine.core.exchange import Exchange
from linkly_engine.telemetry import Telemetry


def statistics(
    exchange: Exchange,
    connections: Connections,
    telemetry: Telemetry,
    *,
    background_calls: int,
    frames_waiting: int,
) -> dict[str, Any]:
    """Return counts and fill levels now."""
    tables = exchange.tables
    return {
        "functions": len(tables.functions),
        "waiting_functions": tables.functions.waiting,
        "background_calls": background_calls,
        "armed_deadlines": len(exchange.deadlines),
        "parked_triggers": sum(1 for binding in tables.triggers.bindings if binding.live_at is None),
        "channels": [
            {"id": pipe.id, "messages": pipe.buffered_messages, "bytes": pipe.buffered_bytes}
            for pipe in exchange.channels
        ],
        "frames_waiting": frames_waiting,
        "telemetry": telemetry.statistics(),
        "connections": connections.statistics(),
    }
