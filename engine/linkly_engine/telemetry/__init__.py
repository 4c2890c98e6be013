"""What workers and the engine say about themselves: log records, spans and metrics."""

from linkly_engine.telemetry.hub import Telemetry

__all__ = ["Telemetry"]
