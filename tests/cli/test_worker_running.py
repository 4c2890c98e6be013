"""`linkly worker` beside a running engine: it takes the change over, the command says what came of it."""

import json
import os
import pty
import re
import subprocess
import sys

import pytest

from support.engine_process import EngineProcess

TIME_S = 30
CONFIG = """workers:
  - {name: iii-worker-manager, config: {port: 0}}
  - {name: state}
  - {name: http, config: {port: 0}}
  - {name: http, config: {port: 0, host: localhost}}
  - {name: database}
  - {name: link, config: {store: memory}}
  - {module: mine:Mine}
"""
NAMES = ["state", "http#1", "http#2", "database", "link", "mine"]


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """One engine for the tests that leave it as it is."""
    process = EngineProcess(tmp_path_factory.mktemp("asked"))
    (process.folder / "config.yaml").write_text(CONFIG)
    (process.folder / "mine.py").write_text("from linkly import Worker\n\n\nclass Mine(Worker):\n    name = 'mine'\n")
    try:
        process.start()
        yield process
    finally:
        process.kill()


@pytest.fixture
def asked(started, monkeypatch):
    """The folder of that engine, which is the current one."""
    monkeypatch.chdir(started.folder)
    monkeypatch.setenv("LINKLY_PORT", str(started.worker_port))
    return started.folder


def test_adding_stopping_and_removing_is_followed_by_the_engine(engine, folder, linkly):
    code, out, err = linkly("worker", "add", "database")
    assert (code, out) == (0, "")
    assert "database: running" in err
    code, out, _ = linkly("worker", "list", "--json")
    listed = json.loads(out)
    assert (code, listed["engine"]) == (0, True)
    assert [(row["name"], row["status"]) for row in listed["workers"]] == [
        ("state", "running"),
        ("database", "running"),
    ]
    assert linkly("trigger", "database::query", "db=primary", "sql=SELECT 1 AS one")[0] == 0

    assert "Worker state: stopped" in linkly("worker", "stop", "state")[2]
    code, out, _ = linkly("worker", "status", "state")
    assert code == 0
    assert re.search(r"^next +start it with `linkly worker start state`$", out, re.MULTILINE)
    assert "Worker state: running" in linkly("worker", "start", "iii-state")[2]
    assert "Worker state: running" in linkly("worker", "restart", "state")[2]

    assert linkly("worker", "remove", "database", "-y")[0] == 0
    code, out, _ = linkly("worker", "list")
    assert [line.split()[0] for line in out.splitlines()] == ["NAME", "state"]
    assert (folder / "config.yaml").read_text().endswith("  # values\n  - name: state\n")


def test_an_unknown_worker_is_said_by_the_engine(asked, linkly):
    for verb in ("status", "stop"):
        code, out, err = linkly("worker", verb, "queue")
        assert (code, out) == (1, "")
        assert "there: `state`" in err


def test_settings_that_the_engine_refuses_end_the_waiting(engine, folder, linkly, monkeypatch):
    monkeypatch.setattr("linkly_engine.cli.running_engine.REFUSED_AFTER_S", 0.5)
    (folder / "config.yaml").write_text((folder / "config.yaml").read_text() + "    config: {no_such_setting: 1}\n")
    code, _, err = linkly("worker", "add", "database")
    assert code == 1
    assert "keeps the earlier configuration" in err
    assert "no_such_setting" in err


def test_a_class_of_ones_own_is_waited_for_by_the_name_it_has(engine, folder, linkly):
    (folder / "greeting.py").write_text("from linkly import Worker\nclass Greeting(Worker):\n    name = 'greets'\n")
    code, _, err = linkly("worker", "add", "greeting:Greeting")
    assert code == 0
    assert "greets: running" in err
    code, _, err = linkly("worker", "add", "no_such_package:Worker")
    assert code == 1
    assert "cannot import `no_such_package`" in err


def test_an_engine_of_another_project_is_not_waited_for(asked, linkly):
    (asked / "other").mkdir()
    (asked / "other/config.yaml").write_text("workers: []\n")
    code, _, err = linkly("worker", "add", "state", "-c", "other/config.yaml")
    assert code == 0
    assert "runs another project" in err
    code, out, _ = linkly("worker", "list", "-c", "other/config.yaml", "--json")
    assert json.loads(out)["engine"] is False


def test_functions_and_workers_are_listed(asked, linkly):
    code, out, _ = linkly("functions", "state::set")
    assert code == 0
    assert out.splitlines()[0].split() == ["FUNCTION", "WORKER", "DESCRIPTION"]
    assert out.splitlines()[1].startswith("state::set  state   Keep a value")
    code, out, _ = linkly("functions", "--all", "--json")
    assert "engine::functions::list" in {row["function_id"] for row in json.loads(out)["functions"]}
    code, out, err = linkly("functions", "no such thing")
    assert (code, out) == (0, "")
    assert "No function matches" in err
    code, out, _ = linkly("workers")
    assert code == 0
    assert out.splitlines()[1].split()[:2] == ["database", "running"]
    rows = json.loads(linkly("workers", "--json")[1])["workers"]
    assert [row["worker_name"] for row in rows] == ["database", "http", "http", "link", "mine", "state"]
    assert [row["name"] for row in rows] == [line.split()[0] for line in out.splitlines()[1:]]
    assert {"http#1", "http#2"} < {row["name"] for row in rows}


def test_banner_list_and_workers_agree_in_names_counts_and_status(asked, linkly):
    listed = {row["name"]: row for row in json.loads(linkly("worker", "list", "--json")[1])["workers"]}
    table = [line.split() for line in linkly("workers")[1].splitlines()[1:]]
    assert {row[0]: (row[1], int(row[4])) for row in table} == {
        name: (row["status"], row["functions"]) for name, row in listed.items()
    }
    assert list(listed) == NAMES
    for name, row in listed.items():
        found = json.loads(linkly("worker", "status", name, "--json")[1])["function_ids"]
        assert len(found) == row["functions"]


def test_a_restart_of_a_module_says_that_its_code_is_not_loaded_again(asked, linkly):
    assert "its code was not loaded again" in linkly("worker", "restart", "mine")[2]
    assert "code" not in linkly("worker", "restart", "state")[2]


@pytest.mark.parametrize("command", ["functions", "workers"])
def test_without_an_engine_the_way_out_is_said(folder, linkly, command):
    code, out, err = linkly(command)
    assert (code, out) == (1, "")
    assert "Start one with `linkly`" in err


def test_on_a_terminal_the_table_has_colours(asked):
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "linkly_engine", "worker", "list"]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    with subprocess.Popen(words, stdout=theirs, stderr=subprocess.PIPE, env=environment) as process:
        os.close(theirs)
        shown = b""
        while b"state" not in shown:
            shown += os.read(ours, 4096)
        process.communicate(timeout=TIME_S)
    os.close(ours)
    assert b"\x1b[32mrunning" in shown


def test_a_question_on_a_terminal_is_answered_there(folder):
    (folder / "config.yaml").write_text("workers:\n  - name: state\n")
    for answer, left in ((b"n\n", "workers:\n  - name: state\n"), (b"y\n", "workers: []\n")):
        ours, theirs = pty.openpty()
        words = [sys.executable, "-m", "linkly_engine", "worker", "remove", "state"]
        with subprocess.Popen(words, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            os.write(ours, answer)
            _, errors = process.communicate(timeout=TIME_S)
        os.close(theirs)
        os.close(ours)
        assert b"Remove state from config.yaml? [y/N]" in errors
        assert process.returncode == (1 if answer == b"n\n" else 0)
        assert (folder / "config.yaml").read_text() == left


def test_a_program_that_does_not_get_ready_in_time_exits_with_2(engine, folder, linkly, monkeypatch):
    monkeypatch.setattr("linkly_engine.cli.running_engine.READY_S", 1.0)
    (folder / "broken").mkdir()
    (folder / "broken/linkly.worker.yaml").write_text("name: broken\nscripts: {start: 'echo no luck >&2; exit 3'}\n")
    code, _, err = linkly("worker", "add", "./broken")
    assert code == 2
    assert "broken: waiting (" in err
    assert "not ready after 1 s: broken" in err
    assert linkly("worker", "logs", "broken")[2].splitlines()[0] == "no luck"
    assert linkly("worker", "remove", "broken", "-y")[0] == 0
