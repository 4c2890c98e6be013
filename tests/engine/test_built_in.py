"""Blocks of iii's workers that linkly has no separate part for: read strictly, and what has no effect is named."""

import pytest

from linkly.errors import ConfigError
from linkly_engine.project.built_in import BUILT_IN
from linkly_engine.project.config import parse

EVERY_KEY = """\
workers:
  - name: iii-observability
    config:
      enabled: true
      service_name: shop
      service_version: "1.2"
      service_namespace: prod
      exporter: both
      endpoint: http://localhost:4317
      sampling_ratio: 1
      sampling:
        default: 0.5
        rules: [{operation: "GET *", service: "shop-?", rate: 0.1}]
        parent_based: true
        rate_limit: {max_traces_per_second: 100}
      memory_max_spans: 1000
      live_spans: true
      trace_storage: {enabled: true, directory: ./traces, max_disk_bytes: 67108864, memory_low_watermark_ratio: 0.75}
      metrics_enabled: true
      metrics_exporter: memory
      metrics_retention_seconds: 3600
      metrics_max_count: 10000
      logs_enabled: true
      logs_exporter: memory
      logs_max_count: 1000
      logs_retention_seconds: 3600
      logs_console_output: true
      logs_sampling_ratio: 1.0
      logs_batch_size: 100
      logs_flush_interval_ms: 5000
      alerts:
        - {name: a, metric: iii.invocations.error, threshold: 5, operator: ">", action: {type: log}}
      level: info
      format: json
      collapse_spans: [{name: x, service: y}]
"""


def refusal(name, block):
    with pytest.raises(ConfigError) as error:
        parse(f"workers:\n  - name: {name}\n    config:\n      {block}\n", "config.yaml", {})
    return error.value.message


def test_every_key_of_iiis_observability_is_named_as_without_effect():
    (note,) = parse(EVERY_KEY, "f", {}).notes
    named = note.partition("without effect: ")[2].split(", ")
    assert named[0] == "enabled"
    assert named[-1] == "collapse_spans"
    assert len(named) == 27


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_a_worker_without_a_block_is_noted(name):
    config = parse(f"workers:\n  - name: {name}\n", "f", {})
    assert (config.workers, len(config.notes)) == ([], 1)
    assert "without effect" not in config.notes[0]


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_a_key_that_nobody_knows_is_refused_where_it_stands(name):
    message = refusal(name, "logs_max_cuont: 5")
    assert message.startswith("config.yaml:4: $.workers[0].config.logs_max_cuont: unknown key")


def test_the_keys_that_are_allowed_are_those_of_the_place():
    message = refusal("iii-observability", "sampling: {rules: [{rate: 1, opration: x}]}")
    assert message == (
        "config.yaml:4: $.workers[0].config.sampling.rules[0].opration: unknown key (`operation`?); "
        "allowed here: rate, operation, service"
    )
    assert "allowed here: max_traces_per_second" in refusal("iii-observability", "sampling: {rate_limit: {x: 1}}")
    assert "allowed here: url_allowlist" in refusal("iii-http-functions", "security: {x: 1}")
    assert "allowed here: directory, bridge_url" in refusal("configuration", "adapter: {name: fs, config: {x: 1}}")
    assert refusal("iii-engine-functions", "x: 1").endswith("allowed here: nothing")


@pytest.mark.parametrize(
    "block, part",
    [
        ("exporter: jaeger", "config.exporter: unknown value 'jaeger'; allowed: both, memory, otlp"),
        ("sampling_ratio: 1.5", "config.sampling_ratio: expected a number of at most 1, got 1.5"),
        ("logs_batch_size: 0", "config.logs_batch_size: expected a whole number of at least 1, got 0"),
        ("enabled: 1", "config.enabled: expected `true` or `false`, got 1"),
        ("alerts: [{name: a}]", "config.alerts[0]: `metric` is missing"),
        (
            "trace_storage: {max_disk_bytes: 1}",
            "max_disk_bytes: expected a whole number of at least 67108864, got 1",
        ),
    ],
)
def test_a_value_that_cannot_be_is_refused_where_it_stands(block, part):
    message = refusal("iii-observability", block)
    assert message.startswith("config.yaml:4: $.workers[0].")
    assert part in message


def test_a_key_that_is_null_is_left_out():
    (note,) = parse("workers: [{name: iii-observability, config: {endpoint: null}}]", "f", {}).notes
    assert "without effect" not in note
