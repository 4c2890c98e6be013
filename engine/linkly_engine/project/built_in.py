"""Blocks of workers that iii's configs list and that linkly has no separate part for.

They are read as strictly as every other block, so that a typing error is found, and a note names what they ask for
and linkly does not do (docs/workers.md#configyaml and docs/workers.md#logs).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from linkly.schema import Settings
from linkly_engine.yaml.problems import Problems
from linkly_engine.yaml.tree import Tree
from linkly_engine.yaml.typed_block import checked_block

Ratio = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class _Block(Settings, kw_only=True):
    pass


class _SamplingRule(_Block):
    rate: Ratio
    operation: str | None = None
    service: str | None = None


class _RateLimit(_Block):
    max_traces_per_second: Count | None = None


class _Sampling(_Block):
    default: Ratio | None = None
    rules: list[_SamplingRule] | None = None
    parent_based: bool | None = None
    rate_limit: _RateLimit | None = None


class _TraceStorage(_Block):
    enabled: bool | None = None
    directory: str | None = None
    max_disk_bytes: Annotated[int, msgspec.Meta(ge=64 * 1024 * 1024)] | None = None
    retention_seconds: Count | None = None
    memory_max_bytes: Count | None = None
    memory_low_watermark_ratio: Ratio | None = None
    pending_max_age_seconds: Count | None = None


class _Alert(_Block):
    name: str
    metric: str
    threshold: float
    operator: Literal[">", ">=", "<", "<=", "==", "!="]
    window_seconds: Count | None = None
    cooldown_seconds: Count | None = None
    enabled: bool | None = None
    action: Any = None


class _Collapsed(_Block):
    name: str
    service: str | None = None


class _Observability(_Block):
    enabled: bool | None = None
    service_name: str | None = None
    service_version: str | None = None
    service_namespace: str | None = None
    exporter: Literal["memory", "otlp", "both"] | None = None
    endpoint: str | None = None
    sampling_ratio: Ratio | None = None
    sampling: _Sampling | None = None
    memory_max_spans: Count | None = None
    live_spans: bool | None = None
    trace_storage: _TraceStorage | None = None
    metrics_enabled: bool | None = None
    metrics_exporter: Literal["memory", "otlp"] | None = None
    metrics_retention_seconds: Count | None = None
    metrics_max_count: Count | None = None
    logs_enabled: bool | None = None
    logs_exporter: Literal["memory", "otlp", "both"] | None = None
    logs_max_count: Count | None = None
    logs_retention_seconds: Count | None = None
    logs_console_output: bool | None = None
    logs_sampling_ratio: Ratio | None = None
    logs_batch_size: Annotated[int, msgspec.Meta(ge=1, le=10_000)] | None = None
    logs_flush_interval_ms: Annotated[int, msgspec.Meta(ge=100, le=3_600_000)] | None = None
    alerts: list[_Alert] | None = None
    level: str | None = None
    format: Literal["default", "json"] | None = None
    collapse_spans: list[_Collapsed] | None = None


class _Security(_Block):
    url_allowlist: list[str] | None = None
    block_private_ips: bool | None = None
    require_https: bool | None = None


class _HttpFunctions(_Block):
    security: _Security | None = None


class _AdapterPlace(_Block):
    directory: str | None = None
    bridge_url: str | None = None


class _Adapter(_Block):
    name: Literal["fs", "bridge"]
    config: _AdapterPlace | None = None


class _Configuration(_Block):
    adapter: _Adapter | None = None
    ttl_seconds: Count | None = None


class _Telemetry(_Block):
    enabled: bool | None = None


_BLOCKS: dict[str, type[_Block]] = {
    "iii-observability": _Observability,
    "iii-telemetry": _Telemetry,
    "iii-engine-functions": _Block,
    "iii-http-functions": _HttpFunctions,
    "configuration": _Configuration,
}

BUILT_IN = frozenset(_BLOCKS)
"""Names of these workers: accepted, noted, not started."""


def read_block(tree: Tree, path: str, name: str, block: Any, problems: Problems) -> str:
    """Check the block of one of `BUILT_IN`, whose entry stands at `path`.

    Returns:
        A sentence that says which of its keys have no effect.
    """
    given: dict[str, Any] = {} if block is None else block
    checked_block(given, _BLOCKS[name], tree, f"{path}.config", problems)
    note = f"`{name}` needs no entry here: it is part of the engine or not there yet"
    said = [key for key, value in given.items() if value is not None]
    return f"{note}; without effect: {', '.join(said)}" if said else note
