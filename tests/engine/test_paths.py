"""Relative paths of the settings begin at the folder of config.yaml, wherever the engine was started."""

import logging
import sqlite3

import pytest

from linkly.errors import ConfigError
from linkly.testing import running_engine
from linkly_engine.project.loader import read

DATABASE = "workers:\n  - name: database\n    config: {{databases: {{primary: {{url: '{}'}}}}}}\n"
STATE = (
    "workers:\n  - name: state\n    config: {{adapter: {{name: kv, config: "
    "{{store_method: file_based, file_path: '{}'}}}}}}\n"
)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A project's folder, and the one that the engine is started in; a home."""
    for name in ("project", "elsewhere", "home"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


async def started(places, text, *calls):
    """Run a project's workers for some calls; return the answers."""
    file = places / "project" / "config.yaml"
    file.write_text(text)
    _, workers = read(file)
    async with running_engine(*workers) as bus:
        return [await bus.trigger(*call) for call in calls]


def database_with(path, row):
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("CREATE TABLE t (a)")
        connection.execute("INSERT INTO t VALUES (?)", (row,))
    connection.close()


SELECT = ("database::query", {"sql": "SELECT a FROM t"})
CREATE = ("database::execute", {"sql": "CREATE TABLE t (a)"})
GET = ("state::get", {"scope": "s", "key": "k"})
SET = ("state::set", {"scope": "s", "key": "k", "value": 1})


@pytest.mark.parametrize("text, call", [(DATABASE.format("sqlite:./data/a"), CREATE), (STATE.format("data/a"), SET)])
async def test_data_lies_beside_the_config(places, text, call):
    await started(places, text, call)
    assert (places / "project" / "data" / "a").exists()
    assert list((places / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("text, call", [(DATABASE.format("sqlite:~/data/a"), CREATE), (STATE.format("~/data/a"), SET)])
async def test_a_tilde_is_the_home_folder(places, text, call):
    await started(places, text, call)
    assert (places / "home" / "data" / "a").exists()


async def test_a_database_at_its_earlier_place_is_used_with_a_warning(places, caplog):
    database_with(places / "elsewhere" / "data" / "a.db", "mine")
    (answer,) = await started(places, DATABASE.format("sqlite:./data/a.db"), SELECT)
    assert answer["rows"] == [{"a": "mine"}]
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert str(places / "elsewhere" / "data" / "a.db") in warning
    assert str(places / "project" / "data" / "a.db") in warning
    assert not (places / "project" / "data").exists()


async def test_state_at_its_earlier_place_is_used_with_a_warning(places, caplog):
    await started(places, STATE.format(places / "elsewhere" / "kv"), SET)
    caplog.clear()
    (answer,) = await started(places, STATE.format("kv"), GET)
    assert answer == 1
    assert "move it to" in caplog.text


async def test_of_two_databases_the_one_beside_the_config_is_used(places, caplog):
    database_with(places / "elsewhere" / "a.db", "another project's")
    database_with(places / "project" / "a.db", "mine")
    (answer,) = await started(places, DATABASE.format("sqlite:a.db"), SELECT)
    assert answer["rows"] == [{"a": "mine"}]
    assert "is not used" in caplog.text


async def test_a_database_in_memory_has_no_place(places):
    await started(places, DATABASE.format("sqlite::memory:"), CREATE)
    assert [path.name for path in places.glob("*/*")] == ["config.yaml"]


@pytest.mark.parametrize("text", [DATABASE.format("sqlite:~nobody-here/a"), STATE.format("~nobody-here/a")])
def test_a_home_that_nobody_has_is_an_error_of_its_key(places, text):
    file = places / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"config\.yaml:3: .*(url|file_path): `~nobody-here/a`"):
        read(file)


@pytest.mark.parametrize("text", [DATABASE.format("sqlite:./a NUL"), STATE.format("./a NUL")])
def test_a_path_with_a_nul_is_an_error_of_its_key(places, text):
    file = places / "config.yaml"
    file.write_text(text.replace("'", '"').replace(" NUL", r"\0"))
    with pytest.raises(ConfigError, match=r"config\.yaml:3: .*(url|file_path): .*NUL"):
        read(file)
