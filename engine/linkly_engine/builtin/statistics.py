"""How full every buffer of the engine is: what `engine::statistics` answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from linkly_engine.engine import Engine
    from linkly_engine.remote.peer import Peer


def statistics(engine: Engine) -> dict[str, Any]:
    """Return counts and fill levels now."""
    return {
        "functions": len(engine.tables.functions),
        "waiting_functions": engine.tables.functions.waiting,
        "background_calls": engine.background_calls,
        "armed_deadlines": len(engine.deadlines),
        "parked_triggers": sum(1 for binding in engine.tables.triggers.bindings if binding.live_at is None),
        "channels": [
            {"id": pipe.id, "messages": pipe.buffered_messages, "bytes": pipe.buffered_bytes}
            for pipe in engine.channels
        ],
        "frames_waiting": engine.turns.frames_waiting,
        "telemetry": engine.telemetry.statistics(),
        "connections": [_connection(peer) for peer in engine.peers.values()],
    }


def _connection(peer: Peer) -> dict[str, Any]:
    connection = peer.connection
    return {
        "worker_id": peer.record.id,
        "name": peer.record.name,
        "unsent_bytes": connection.stream.buffered_bytes(),
        "calls_waiting_for_it": connection.calls_made,
        "calls_it_waits_for": connection.calls_served,
        "waiting_for_its_namespace": peer.waiting,
        **msgspec.structs.asdict(connection.statistics),
    }
