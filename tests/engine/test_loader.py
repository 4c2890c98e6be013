"""A name in config.yaml becomes a worker."""

import pytest

from linkly import Enqueue
from linkly.errors import ConfigError, EnqueueFailed
from linkly.testing import running_engine
from linkly_engine.core.missing import PROVIDERS, how_to_get
from linkly_engine.project.config import parse
from linkly_engine.project.loader import load_workers
from linkly_engine.shipped import IIIS, shipped_names


def workers(text, folder):
    config = parse(text, "config.yaml", {})
    config.folder = folder
    return load_workers(config)


def test_shipped_workers_are_found_by_name(tmp_path):
    assert {"state", "database", "http", "link"} <= set(shipped_names())
    found = workers("workers:\n  - name: state\n  - name: database\n", tmp_path)
    assert [worker.name for worker in found] == ["state", "database"]


def test_a_worker_of_ones_own_lies_beside_the_config(tmp_path):
    (tmp_path / "my_own_worker.py").write_text(
        "from linkly import Settings, Worker\n"
        "class Mine(Settings):\n    greeting: str = 'hello'\n"
        "class MyWorker(Worker):\n    name = 'mine'\n    settings_type = Mine\n"
    )
    (found,) = workers("workers:\n  - module: my_own_worker:MyWorker\n    config: {greeting: hi}\n", tmp_path)
    assert (found.name, found.settings.greeting) == ("mine", "hi")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("workers:\n  - name: stat\n", ["config.yaml:2: $.workers[0].name", "did you mean `state`", "database"]),
        ("workers:\n  - module: no_such_module:X\n", ["$.workers[0].module", "cannot import `no_such_module`"]),
        ("workers:\n  - module: linkly.client:Nope\n", ["`Nope` is no Worker class in `linkly.client`; there: none"]),
        ("workers:\n  - module: linkly:Nope\n", ["`Nope` is no Worker class", "Worker"]),
        (
            "workers:\n  - name: state\n    config: {trigers_enabled: 1}\n",
            ["config.yaml:3: $.workers[0].config.trigers_enabled", "triggers_enabled"],
        ),
        (
            "workers:\n  - name: http\n    config: {port: 99999}\n",
            ["config.yaml:3: $.workers[0].config.port", "65535"],
        ),
        (
            "workers:\n  - name: database\n    config: {databases: {a: {url: 'mongo://x'}}}\n",
            ["config.yaml:3: $.workers[0].config.databases.a.url", "mongo", "sqlite:"],
        ),
        (
            "workers:\n  - name: database\n    config: {databases: {}}\n",
            ["config.yaml:3: $.workers[0].config.databases", "at least one"],
        ),
    ],
)
def test_an_entry_that_cannot_be_used_says_what_is_allowed(tmp_path, text, expected):
    with pytest.raises(ConfigError) as caught:
        workers(text, tmp_path)
    for part in expected:
        assert part in caught.value.message


def test_a_module_that_fails_on_import_names_the_error(tmp_path):
    (tmp_path / "broken_on_import.py").write_text("1 / 0\n")
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        workers("workers:\n  - module: broken_on_import:X\n", tmp_path)


@pytest.mark.parametrize("name", ["cron", "iii-cron", "pubsub", "stream", "iii-stream"])
def test_a_worker_of_iii_that_is_not_there_yet_is_said_to_be_so(tmp_path, name):
    with pytest.raises(ConfigError) as caught:
        workers(f"workers:\n  - name: {name}\n", tmp_path)
    assert f"linkly has no `{name.removeprefix('iii-')}` worker yet" in caught.value.message
    assert "did you mean" not in caught.value.message


def test_what_an_error_recommends_can_be_loaded(tmp_path):
    for worker in {*PROVIDERS.values(), *IIIS}:
        advice = how_to_get(worker)
        if "- name:" in advice:
            assert [each.name for each in workers(f"workers:\n  - name: {worker}\n", tmp_path)] == [worker]
        else:
            assert "not" in advice or "no `" in advice
            with pytest.raises(ConfigError):
                workers(f"workers:\n  - name: {worker}\n", tmp_path)


async def test_an_enqueue_without_a_queue_worker_recommends_only_what_there_is():
    async with running_engine() as bus:
        with pytest.raises(EnqueueFailed) as caught:
            await bus.trigger("t::later", {}, action=Enqueue("mails"))
    assert "engine::queue::enqueue" in caught.value.message
    assert ("`- name: queue`" in caught.value.message) == ("queue" in shipped_names())


def test_a_module_that_another_one_misses_is_the_one_to_install(tmp_path):
    (tmp_path / "needs_more.py").write_text("import surely_not_installed\n")
    with pytest.raises(ConfigError) as caught:
        workers("workers:\n  - module: needs_more:Mine\n", tmp_path)
    assert "cannot import `needs_more`" in caught.value.message
    assert "`surely_not_installed` has to be installed" in caught.value.message
