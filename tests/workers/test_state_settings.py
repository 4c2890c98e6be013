"""The state worker's `config:` block, old keys included (docs/workers.md#state)."""

import pytest

from linkly.errors import ConfigError
from linkly.schema import read_settings
from linkly_workers.state import StateSettings


def read(**block):
    return read_settings(StateSettings, block, "$.workers[0].config")


def kv(**config):
    return {"name": "kv", "config": config}


def test_nothing_is_needed():
    settings = read()
    assert (settings.adapter.name, settings.adapter.config.store_method) == ("kv", "in_memory")
    assert (settings.triggers_enabled, settings.max_value_bytes) == (True, None)


def test_the_config_of_an_older_project_is_understood():
    settings = read(
        adapter=kv(store_method="file_based", file_path="./data/state", save_interval_ms=5000),
        save_interval_ms=100,
        triggers_enabled=False,
        max_value_bytes=1,
    )
    assert settings.adapter.config.file_path == "./data/state"
    assert (settings.triggers_enabled, settings.max_value_bytes) == (False, 1)


def test_a_store_in_a_database_is_in_the_one_called_primary_unless_another_is_named():
    assert read(adapter={"name": "database"}).adapter.config.db == "primary"
    assert read(adapter={"name": "database", "config": {"db": "values"}}).adapter.config.db == "values"


@pytest.mark.parametrize(
    "block, parts",
    [
        ({"save_interval_ms": 99}, ["save_interval_ms", "100"]),
        ({"save_interval_ms": 3_600_001}, ["save_interval_ms", "3600000"]),
        ({"adapter": kv(save_interval_ms=99)}, ["adapter.config.save_interval_ms", "100"]),
        ({"max_value_bytes": 0}, ["max_value_bytes", "1"]),
        ({"max_value_bytes": "many"}, ["max_value_bytes", "whole number"]),
        ({"triggers_enabled": "yes"}, ["triggers_enabled", "`true` or `false`"]),
        ({"adapter": kv(store_method="on_paper")}, ["store_method", "on_paper"]),
        ({"adapter": kv(file_path="")}, ["file_path"]),
        ({"adapter": kv(stray=1)}, ["stray"]),
        ({"adapter": {"name": "redis", "config": {}}}, ["adapter", "redis", "kv"]),
        ({"adapter": {"name": "database", "config": {"file_path": "values"}}}, ["adapter.config.file_path", "`db`"]),
        ({"adapter": {"name": "database", "config": {"db": ""}}}, ["adapter.config.db"]),
        ({"adapter": kv(db="other")}, ["adapter.config.db", "name: database"]),
        ({"adapter": None}, ["adapter"]),
        ({"typo": 1}, ["typo", "triggers_enabled"]),
    ],
)
def test_what_cannot_be_used_is_named(block, parts):
    with pytest.raises(ConfigError) as failure:
        read(**block)
    for part in ("$.workers[0].config", *parts):
        assert part in failure.value.message
