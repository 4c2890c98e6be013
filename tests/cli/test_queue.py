"""`linkly queue`: tables on stdout for people, JSON for programs; `linkly worker add queue` brings the database."""

import json

import pytest

CONFIG = """
workers:
  - name: iii-worker-manager
    config: {port: 0}
  - name: database
    config: {databases: {primary: {url: "sqlite:./a.db"}}}
  - name: state
  - name: queue
    config: {queue_configs: {default: {max_retries: 1}, other: {}}}
"""


@pytest.fixture
def project(folder):
    (folder / "config.yaml").write_text(CONFIG)
    return folder


@pytest.fixture
def dead(project, engine, linkly):
    """A project whose engine runs, with a job that is dead; return its receipt."""
    _, out, _ = linkly("trigger", "queue::enqueue", "function_id=state::get", "payload=1")
    receipt = json.loads(out)["messageReceiptId"]
    assert json.loads(linkly("trigger", "queue::wait", f"id={receipt}")[1])["state"] == "dead"
    return receipt


def test_queues_and_their_jobs_are_listed(dead, linkly):
    linkly("trigger", "queue::enqueue", "function_id=no::body", "payload=1", "queue=other")
    code, out, err = linkly("queue", "list")
    assert code == 0
    lines = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert lines["QUEUE"][:3] == ["STATUS", "WAITING", "DELAYED"]
    assert lines["default"][:6] == ["served", "0", "0", "0", "0", "1"]
    assert lines["other"][:2] == ["served", "1"]
    assert err == "other: 1 jobs wait for `no::body`, which nobody serves\n"
    assert {row["queue"] for row in json.loads(linkly("queue", "list", "--json")[1])["queues"]} >= {"default", "other"}
    shown = dict(line.rsplit(maxsplit=1) for line in linkly("queue", "show", "default")[1].splitlines())
    assert (shown["dead"], shown["configured"], shown["max_retries"]) == ("1", "yes", "1")
    assert json.loads(linkly("queue", "show", "default", "--json")[1])["dead"] == 1
    assert "no::body" in linkly("queue", "jobs", "--state", "waiting")[1]
    assert linkly("queue", "jobs", "--queue", "other", "--state", "done")[2] == "No jobs.\n"
    code, out, err = linkly("queue", "show", "none")
    assert (code, out) == (1, "")
    assert err.startswith("Error: there is no queue `none`")


def test_dead_letters_are_listed_redriven_and_discarded(dead, linkly):
    code, out, _ = linkly("queue", "dead", "--queue", "default")
    assert code == 0
    assert out.splitlines()[1].split()[:3] == [dead, "default", "state::get"]
    assert json.loads(linkly("queue", "dead", "--json")[1])["jobs"][0]["payload"] == 1
    assert linkly("queue", "dead", "--reason", "timed_out")[2] == "No dead letters.\n"
    assert linkly("queue", "redrive")[::2] == (2, "Error: say which jobs: their ids, --queue, or another filter\n")
    assert linkly("queue", "redrive", dead)[::2] == (0, "✓ 1 job redriven\n")
    assert json.loads(linkly("trigger", "queue::wait", f"id={dead}")[1])["state"] == "dead"
    assert json.loads(linkly("queue", "discard", "--queue", "default", "--json")[1]) == {"discarded": 1}


def test_a_queue_is_paused_and_resumed(project, engine, linkly):
    assert linkly("queue", "pause", "other")[::2] == (0, "✓ Queue other paused\n")
    assert "paused" in linkly("queue", "list")[1]
    assert linkly("queue", "resume", "other")[::2] == (0, "✓ Queue other resumed\n")
    assert json.loads(linkly("queue", "resume", "other", "--json")[1]) == {"queue": "other", "paused": False}


def test_adding_the_queue_adds_the_database_if_it_is_not_there(folder, linkly):
    (folder / "config.yaml").write_text("workers:\n  - name: state\n")
    code, _, err = linkly("worker", "add", "queue")
    assert code == 0
    assert "Worker database added to config.yaml" in err
    assert "Worker queue added to config.yaml" in err
    assert linkly("worker", "remove", "queue", "-y")[0] == 0
    code, _, err = linkly("worker", "add", "queue")
    assert "database" not in err
    assert (folder / "config.yaml").read_text().count("name: database") == 1
    assert "queue_configs:" in (folder / "config.yaml").read_text()
