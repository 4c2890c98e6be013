"""config.yaml: everything is checked before anything starts, and an error says file, line, path and what is allowed."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkly.errors import ConfigError
from linkly_engine.project.config import load, parse
from linkly_engine.project.listener import Listener

ROOT = Path(__file__).parents[2]


def error(text, **environment):
    with pytest.raises(ConfigError) as caught:
        parse(text, "config.yaml", environment)
    return caught.value.message


def test_names_configs_and_modules_are_read():
    config = parse(
        "workers:\n"
        "  - name: state\n    config: {triggers_enabled: false}\n"
        "  - module: my.pkg:Hello\n"
        "modules:\n  - name: http\n",
        "f",
        {},
    )
    assert [(w.name, w.module, w.config) for w in config.workers] == [
        ("state", None, {"triggers_enabled": False}),
        ("", "my.pkg:Hello", None),
        ("http", None, None),
    ]
    assert config.listeners == [Listener()]


def test_older_names_mean_the_same():
    config = parse("workers:\n  - name: iii-state\n  - name: iii-http\n", "f", {})
    assert [worker.name for worker in config.workers] == ["state", "http"]
    assert "old name of `state`" in config.notes[0]


def test_both_spellings_together_are_refused():
    message = error("workers:\n  - name: state\n  - name: iii-state\n")
    assert "Duplicate worker configurations:" in message
    assert "config.yaml:3: $.workers[1]" in message
    assert "remove `iii-state`" in message


def test_one_name_twice_is_two_workers():
    config = parse("workers:\n  - name: state\n  - name: state\n", "f", {})
    assert [worker.name for worker in config.workers] == ["state#1", "state#2"]


def test_workers_that_are_part_of_the_engine_are_not_started():
    config = parse("workers:\n  - name: iii-observability\n    config: {enabled: true}\n", "f", {})
    assert config.workers == []
    assert "iii-observability" in config.notes[0]


def test_a_folder_is_relative_to_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "project").mkdir()
    file = tmp_path / "project" / "config.yaml"
    file.write_text(
        "workers:\n  - path: ./link\n    config: {a: 1}\n"
        "  - name: other\n    worker_path: ../other\n  - name: http\n    path: ~/mine\n"
    )
    config = load(file, {"HOME": "x"})
    assert [(entry.name, entry.folder, entry.config) for entry in config.workers] == [
        ("", tmp_path / "project" / "link", {"a": 1}),
        ("other", tmp_path / "other", None),
        ("http", tmp_path / "home" / "mine", None),
    ]
    assert config.file == file


def test_listeners_replace_the_default_one():
    config = parse(
        "workers:\n"
        "  - name: iii-worker-manager\n    config: {port: 0, handshake_timeout_ms: 500}\n"
        "  - name: iii-worker-manager\n    config: {port: 3110}\n",
        "f",
        {},
    )
    assert config.listeners == [
        Listener(port=0, handshake_timeout_s=0.5),
        Listener(port=3110),
    ]


def listener(block):
    return f"workers:\n  - name: iii-worker-manager\n    config: {{{block}}}\n"


@pytest.mark.parametrize("host", ["0.0.0.0", "'::'", "''", "192.168.1.7", "engine.internal", "'::ffff:10.0.0.1'"])
def test_a_worker_port_that_others_can_reach_has_to_be_asked_for_by_name(host):
    message = error(listener(f"host: {host}"))
    assert message.startswith("config.yaml:3: $.workers[0].config.host: ")
    assert "`allow_unauthenticated: true`" in message
    config = parse(listener(f"host: {host}, allow_unauthenticated: true"), "f", {})
    assert config.listeners == [Listener(host=host.strip("'"))]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "'::1'", "'::ffff:127.0.0.1'"])
def test_a_worker_port_of_this_machine_alone_needs_no_leave(host):
    assert parse(listener(f"host: {host}"), "f", {}).listeners == [Listener(host=host.strip("'"))]


def test_origins_that_may_connect_are_kept_as_browsers_write_them():
    config = parse(
        listener("allowed_origins: ['HTTPS://App.Example:443', 'http://[::1]:5173', 'tauri://localhost']"), "f", {}
    )
    assert config.listeners[0].allowed_origins == ["https://app.example", "http://[::1]:5173", "tauri://localhost"]


@pytest.mark.parametrize(
    "origin", ["*", "null", "app.example", "https://app.example/", "https://app.example/x", "https://", ""]
)
def test_what_is_no_origin_of_one_page_cannot_be_let_in(origin):
    message = error(listener(f"allowed_origins: [https://ok.example, '{origin}']"))
    assert message.startswith("config.yaml:3: $.workers[0].config.allowed_origins[1]: `")


@pytest.mark.parametrize("text", ["", "workers:\n", "workers: []\n", "# only a comment ${UNSET}\n"])
def test_an_empty_file_runs_the_engine_alone(text):
    assert parse(text, "f", {}).workers == []


@pytest.mark.parametrize(
    "text, expected",
    [
        ("wokers: []\n", ["config.yaml:1: $.wokers", "unknown key", "workers"]),
        ("- a\n", ["$", "a list"]),
        ("workers: 5\n", ["$.workers", "list"]),
        ("workers:\n  - 5\n", ["config.yaml:2: $.workers[0]", "- name: state"]),
        ("workers:\n  - name: ''\n", ["$.workers[0].name", "non-empty"]),
        ("workers:\n  - {}\n", ["$.workers[0]", "module"]),
        ("workers:\n  - name: a\n    confg: {}\n", ["config.yaml:3: $.workers[0].confg", "name, module, path, config"]),
        ("workers:\n  - name: a\n    config: 5\n", ["$.workers[0].config", "mapping"]),
        ("workers:\n  - name: a\n    image: x/y\n", ["config.yaml:3: $.workers[0].image", "iii.worker.yaml", "path:"]),
        ("workers:\n  - path: ''\n", ["$.workers[0].path", "non-empty"]),
        ("workers:\n  - path: a\n    worker_path: b\n", ["config.yaml:3: $.workers[0].worker_path", "give one"]),
        ("workers:\n  - path: a\n    module: b:C\n", ["$.workers[0].module", "not both"]),
        ("workers:\n  - path: a\n    name: ../b\n", ["$.workers[0].name", "`../b`", "no `..`"]),
        ("workers:\n  - path: a\n    name: a\n  - path: b\n    name: a\n", ["`a`", "$.workers[1]", "another worker"]),
        ("workers:\n  - name: a\n  - path: b\n    name: a\n", ["$.workers[1].name", "$.workers[0]"]),
        ("workers:\n  - path: a\n    name: iii-worker-manager\n", ["part of the engine"]),
        ("workers:\n  - module: nocolon\n", ["$.workers[0].module", "package.module:Class"]),
        ("workers:\n  - name: a\n    name: b\n", ["config.yaml:3", "twice"]),
        ("workers: [\n", ["config.yaml:", "not valid YAML"]),
        ("a: &x\n  b: *x\n", ["alias"]),
        (
            "workers:\n  - name: iii-worker-manager\n    config: {port: 70000}\n",
            ["$.workers[0].config.port", "70000", "65535"],
        ),
        (
            "workers:\n  - name: iii-worker-manager\n    config: {port: x}\n",
            ["config.yaml:3: $.workers[0].config.port", "expected a whole number, got the text 'x'"],
        ),
        ("workers:\n  - name: iii-worker-manager\n    config: {prt: 1}\n", ["prt", "host, port"]),
        (
            "workers:\n  - name: iii-worker-manager\n    config: {rbac: {}}\n",
            ["$.workers[0].config.rbac", "not supported"],
        ),
        ("registration_namespace_grace_ms: -1\n", ["$.registration_namespace_grace_ms", "-1"]),
    ],
)
def test_an_error_names_file_line_path_and_what_is_allowed(text, expected):
    message = error(text)
    for part in expected:
        assert part in message


def test_variables_are_replaced_before_yaml_is_read():
    config = parse(
        "workers:\n  - name: ${W:state}\n    config: {a: '${A}', b: '${B:x}', c: '${EMPTY:y}'}\n",
        "f",
        {"A": "1", "EMPTY": ""},
    )
    assert config.workers[0].name == "state"
    assert config.workers[0].config == {"a": "1", "b": "x", "c": ""}


def test_a_variable_that_is_not_set_is_an_error_with_its_line():
    message = error("workers: []\n# ${IGNORED}\nx: ${MISSING}\n")
    assert "config.yaml:3: $.x: environment variable MISSING is not set" in message
    assert "${MISSING:default}" in message


def test_the_grace_can_be_set_in_the_file_and_by_the_environment():
    assert parse("registration_namespace_grace_ms: 100\n", "f", {}).namespace_grace_s == 0.1
    assert parse("", "f", {"III_NAMESPACE_GRACE_MS": "2000"}).namespace_grace_s == 2.0
    assert "III_NAMESPACE_GRACE_MS" in error("", III_NAMESPACE_GRACE_MS="soon")


def test_the_default_project_is_valid_and_spells_out_the_defaults():
    from linkly_engine.project.loader import load_worker

    spelled = load(ROOT / "config.yaml", {})
    assert [worker.name for worker in spelled.workers] == ["state", "database", "queue", "http", "link"]
    for entry in spelled.workers:
        with_file = load_worker(entry)
        entry.config = None
        assert with_file.settings == load_worker(entry).settings


def test_without_a_file_the_embedded_defaults_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load(None, {})
    assert [worker.name for worker in config.workers] == ["state", "database", "queue", "http", "link"]
    assert "no config.yaml" in config.notes[0]


def test_a_file_that_cannot_be_read_is_one_clear_error(tmp_path):
    with pytest.raises(ConfigError, match=r"missing\.yaml: cannot be read"):
        load(tmp_path / "missing.yaml", {})
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        load(binary, {})


_words = st.sampled_from(
    [
        "workers",
        "name",
        "config",
        "module",
        "state",
        "a:B",
        "iii-worker-manager",
        "port",
        "${A}",
        "${A:b}",
        "1",
        "- ",
        ": ",
        "\n",
        "  ",
        "[",
        "]",
        "{",
        "}",
        "&a",
        "*a",
        "!!python/object:os.system",
        "'",
        '"',
        "#",
        "|",
        "0x",
        "2026-01-01",
    ]
)


@given(st.one_of(st.text(), st.lists(_words, max_size=25).map("".join)))
def test_no_text_raises_anything_but_a_config_error(text):
    with contextlib.suppress(ConfigError):
        parse(text, "config.yaml", {"A": "x"})


def test_files_of_settings_that_iii_would_read_are_named(tmp_path):
    (tmp_path / "config.yaml").write_text("workers:\n  - name: state\n  - name: iii-http\n")
    (tmp_path / "config").mkdir()
    for name in ("state.yaml", "iii-http.yml", "database.yaml", "notes.txt"):
        (tmp_path / "config" / name).write_text("id: x\n")
    notes = load(tmp_path / "config.yaml", {}).notes
    assert [note.split()[0] for note in notes if "is not read" in note] == ["config/iii-http.yml", "config/state.yaml"]
    assert any("stand in config.yaml, under `config:` of its entry" in note for note in notes)
