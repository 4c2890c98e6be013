"""Where commands look for the engine of a project."""

from inspect import signature

import pytest

from linkly import Client
from linkly_engine import HOST, PORT
from linkly_engine.cli import worker_port
from linkly_engine.cli.usage import UsageError
from linkly_engine.cli.worker_port import find
from support.engine_process import EngineProcess

USUAL = "- name: iii-worker-manager"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder to stand in, whose config.yaml is what the test writes; nothing in the environment names a port."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LINKLY_PORT", raising=False)
    return tmp_path


def where(*arguments, **given):
    found = find(*arguments, **given)
    return found.address, found.port


def test_without_a_project_it_is_the_usual_port(project):
    assert where() == ("localhost", 49134)


@pytest.mark.parametrize(
    "text, expected",
    [
        (f"workers:\n  {USUAL}\n    config:\n      port: 5001\n", 5001),
        (f"workers:\n{USUAL}\n  # where\n  config:  # of ports\n    host: 127.0.0.1\n    port: 5001  # ours\n", 5001),
        (f"workers:\n  {USUAL}\n    config:\n      middleware: 1\n  - name: http\n    config: {{port: 7}}", 49134),
        (f"workers:\n  {USUAL}\n    config: {{port: 5001}}\n", 5001),
        ("workers: [{name: iii-worker-manager, config: {port: 5001}}]\n", 5001),
        (f"workers:\n  {USUAL}\n    config:\n      port: ${{NO_SUCH_PORT:5001}}\n", 5001),
        ('workers:\n  - name: "iii-worker-manager"\n    config:\n      port: 5001\n', 5001),
        (f"workers:\n  # {USUAL}\n  #   config:\n  #     port: 5001\n  - name: state\n", 49134),
        (f"workers:\n  {USUAL}\n    config:\n      port: 5001\n  {USUAL}\n    config:\n      port: 5002\n", 5001),
    ],
)  # fmt: skip
def test_it_is_the_port_of_the_projects_first_listener(project, text, expected):
    (project / "config.yaml").write_text(text)
    assert where() == ("localhost", expected)


@pytest.mark.parametrize(
    "host, address",
    [("127.0.0.1", "localhost"), ("0.0.0.0", "localhost"), ("'::1'", "localhost"), ("'::'", "localhost"),
     ("192.0.2.7", "192.0.2.7"), ("box.example", "box.example"), ("'2001:db8::1'", "2001:db8::1")],
)  # fmt: skip
def test_it_is_reached_where_the_listener_listens(project, host, address):
    (project / "config.yaml").write_text(
        f"workers:\n  {USUAL}\n    config:\n      host: {host}\n      port: 5001\n      allow_unauthenticated: true\n"
    )
    assert where() == (address, 5001)


def test_another_file_may_be_named(project):
    (project / "other.yaml").write_text(f"workers:\n  {USUAL}\n    config:\n      port: 5001\n")
    assert where("other.yaml") == ("localhost", 5001)


def test_the_command_line_has_the_first_word(project, monkeypatch):
    (project / "config.yaml").write_text(f"workers:\n  {USUAL}\n    config:\n      port: 5001\n")
    monkeypatch.setenv("LINKLY_PORT", "5002")
    assert where() == ("localhost", 5002)
    assert where(port=5003) == ("localhost", 5003)
    assert where(address="192.0.2.7") == ("192.0.2.7", 5002)
    monkeypatch.setenv("LINKLY_PORT", "many")
    assert where(port=5003) == ("localhost", 5003)
    with pytest.raises(UsageError, match="LINKLY_PORT"):
        where()


@pytest.mark.parametrize(
    "text, doubt",
    [
        (f"workers:\n  {USUAL}\n    config:\n      port: 0\n", "any free one"),
        (f"workers:\n  {USUAL}\n    config: {{port: 0}}\n", "any free one"),
        (f"workers:\n  {USUAL}\n    config: {{port: many}}\n", "config.yaml:3"),
    ],
)
def test_a_port_that_the_file_does_not_tell_is_a_guess_with_its_reason(project, text, doubt):
    (project / "config.yaml").write_text(text)
    found = find()
    assert (found.address, found.port) == ("localhost", 49134)
    assert doubt in found.doubt


def test_a_file_in_its_usual_form_is_not_parsed(project, monkeypatch):
    monkeypatch.delattr(worker_port, "_as_the_engine_reads_it")
    (project / "config.yaml").write_text(f"workers:\n  {USUAL}\n    config:\n      host: 127.0.0.1\n      port: 5001\n")
    assert where() == ("localhost", 5001)


def test_every_command_finds_the_engine_of_its_project(project, reserve_port):
    (project / "sub").mkdir()
    (project / "config.yaml").write_text(
        f"workers:\n  {USUAL}\n    config:\n      port: {reserve_port()}\n  - name: state\n"
    )
    engine = EngineProcess(project)
    engine.start()
    try:
        for words in (
            ["trigger", "state::list_groups"],
            ["trigger", "state::get", "--help"],
            ["functions"],
            ["workers"],
            ["worker", "list", "--json"],
            ["worker", "restart", "state"],
            ["-c", "config.yaml", "trigger", "state::list_groups"],
            ["trigger", "state::list_groups", "-c", "config.yaml"],
        ):
            shown = engine.run(*words)
            assert (shown.returncode, "engine not running" in shown.stderr) == (0, False), (words, shown)
            assert "no engine" not in shown.stderr, words
    finally:
        engine.kill()


def test_the_client_s_default_is_the_engine_s():
    assert signature(Client).parameters["url"].default == f"ws://{HOST}:{PORT}"
