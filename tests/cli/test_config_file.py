"""config.yaml on disk: written whole, by one command at a time, and only if the engine would take it."""

import stat
import threading

import pytest

from linkly.errors import ConfigError
from linkly_engine.project.edit.edit import add_entry, remove_entry, replace_value
from linkly_engine.project.edit.file import change, open_layout
from linkly_engine.project.edit.layout import read


def added(text, **value):
    return add_entry(read(text, "c"), value or {"name": "new"}).text


def removed(text, number):
    layout = read(text, "c")
    return remove_entry(layout, layout.entries[number]).text


@pytest.mark.parametrize(
    "before, after",
    [
        ("", "workers:\n  - name: new\n"),
        ("# only a comment", "# only a comment\nworkers:\n  - name: new"),
        ("workers: []\n", "workers:\n  - name: new\n"),
        ("workers:\n", "workers:\n  - name: new\n"),
        ("workers: ~ # none\n# end\n", "workers: # none\n  - name: new\n# end\n"),
        ("workers:\n    - name: a\n", "workers:\n    - name: a\n    - name: new\n"),
        ("workers:\n- name: a\nmodules: []", "workers:\n- name: a\n- name: new\nmodules: []"),
        ("modules:\n  - name: a\n", "modules:\n  - name: a\n  - name: new\n"),
        ("workers:\r\n  - name: a\r\n", "workers:\r\n  - name: a\r\n  - name: new\r\n"),
        ("workers:\n  - name: a\n\n  - name: b\n", "workers:\n  - name: a\n\n  - name: b\n\n  - name: new\n"),
        ("workers:\n  - name: a\n    # x\n\n# end\n", "workers:\n  - name: a\n    # x\n  - name: new\n\n# end\n"),
    ],
)  # fmt: skip
def test_an_entry_is_written_in_the_style_of_the_file(before, after):
    assert added(before) == after


@pytest.mark.parametrize(
    "before, number, after",
    [
        ("workers:\n  - name: a\n", 0, "workers: []\n"),
        ("workers:   # mine\n  - name: a", 0, "workers: []   # mine"),
        ("workers:\n  # a\n  - name: a\n    # b: c\n  # b\n  - name: b\n", 0, "workers:\n  # b\n  - name: b\n"),
        ("workers:\n  # all\n\n  # about a\n  - name: a\n\n  - name: b\n", 0, "workers:\n  # all\n\n  - name: b\n"),
        ("workers:\n  - name: a\n\n  - name: b\n", 0, "workers:\n  - name: b\n"),
    ],
)  # fmt: skip
def test_with_an_entry_goes_what_belongs_to_it(before, number, after):
    assert removed(before, number) == after


def test_a_path_is_replaced_in_its_place():
    layout = read("workers:\n  - {name: a, path: './old'} # stays\n", "c")
    assert replace_value(layout, layout.entries[0], "path", "./new").text == (
        "workers:\n  - {name: a, path: ./new} # stays\n"
    )


@pytest.mark.parametrize(
    "text, reason",
    [
        ("workers:\n  - &a {name: a}\n  - {config: *a, name: b}\n", "would break it"),
        ("workers:\n  - name: a\n    config: &c {x: 1}\nmodules:\n  - {name: b, config: *c}\n", "would break it"),
        ("? workers\n: - name: a\n", "does not begin a line of its own"),
    ],
)
def test_what_cannot_be_changed_safely_is_refused(text, reason):
    with pytest.raises(ConfigError, match=reason):
        removed(text, 0)


def test_a_variable_that_only_the_engine_knows_is_no_obstacle(tmp_path, monkeypatch):
    monkeypatch.delenv("SECRET_OF_THE_ENGINE", raising=False)
    path = tmp_path / "config.yaml"
    path.write_text("workers:\n  - name: a\n    config: {key: '${SECRET_OF_THE_ENGINE}'}\n")
    assert change(path, lambda layout: add_entry(layout, {"name": "state"}))
    assert path.read_text().endswith("SECRET_OF_THE_ENGINE}'}\n  - name: state\n")


@pytest.mark.parametrize(
    "text, where",
    [
        ("workers:\n  - name: [\n", "config.yaml:3: not valid YAML"),
        ("workers: 5\n", "config.yaml:1: $.workers: expected a list"),
        ("workers:\n  - state\n", "config.yaml:2: $.workers[0]: expected a mapping"),
        ("workers:\n  - name: state\n    nmae: x\n", "config.yaml:3: $.workers[0].nmae: unknown key"),
        ("- a\n", "expected a mapping with `workers:`"),
    ],
)
def test_a_file_that_is_not_valid_is_refused_with_file_and_line(tmp_path, text, where):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        change(path, lambda layout: add_entry(layout, {"name": "state"}))
    assert where in str(refused.value)
    assert path.read_text() == text
    assert [each.name for each in tmp_path.iterdir()] == ["config.yaml"]


def test_a_result_that_the_engine_would_refuse_is_not_written(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("workers:\n  - name: iii-state\n")
    with pytest.raises(ConfigError, match="Duplicate worker configurations"):
        change(path, lambda layout: add_entry(layout, {"name": "state"}))
    assert path.read_text() == "workers:\n  - name: iii-state\n"


def test_mode_and_symbolic_link_stay(tmp_path):
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "shared.yaml", tmp_path / "config.yaml"
    target.write_bytes(b"workers: []\r\n")
    target.chmod(0o640)
    link.symlink_to(target)
    assert change(link, lambda layout: add_entry(layout, {"name": "state"}))
    assert link.is_symlink()
    assert target.read_bytes() == b"workers:\r\n  - name: state\r\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert [each.name for each in target.parent.iterdir()] == ["shared.yaml"]


def test_commands_at_the_same_time_lose_nothing(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("workers: []\n")

    def add(number):
        change(path, lambda layout: add_entry(layout, {"module": f"package:Class{number}"}))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    found = {entry.value["module"] for entry in open_layout(path).entries}
    assert found == {f"package:Class{number}" for number in range(12)}


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(ConfigError, match="linkly project init"):
        open_layout(tmp_path / "config.yaml")
