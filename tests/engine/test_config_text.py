"""Settings arrive as they were written, and placeholders fill in text, whatever its characters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkly import Worker
from linkly.errors import ConfigError
from linkly.schema import Settings
from linkly_engine.process.manifest import parse_manifest
from linkly_engine.project.config import load, parse
from linkly_engine.project.edit.layout import read
from linkly_engine.project.loader import load_worker
from linkly_engine.yaml.tree import Tree
from linkly_engine.yaml.typed_block import typed_block

AS_WRITTEN = [
    "no",
    "on",
    "y",
    "0755",
    "12:30",
    "1.10",
    "1e3",
    "0x1F",
    "1_000",
    "2026-01-01",
    "true",
    "~x",
    ".5",
    "=",
    "<",
]


class Inner(Settings):
    """A part."""

    url: str = ""


class Sample(Settings):
    """One of every kind."""

    text: str = ""
    maybe: str | None = None
    number: int = 0
    ratio: float = 0.0
    on: bool = False
    words: list[str] = []
    parts: dict[str, Inner] = {}


class SampleWorker(Worker):
    """Has every kind of setting."""

    name = "sample"
    settings_type = Sample
    settings: Sample

    def __init__(self, settings: Sample) -> None:
        super().__init__()
        self.settings = settings


def settings(block, variables=None):
    """Read a block as a worker gets it."""
    tree = Tree(block, "config.yaml", variables=variables or {})
    return SampleWorker.from_config(typed_block(tree.value, Sample, tree, "$")).settings


@pytest.mark.parametrize("written", AS_WRITTEN)
def test_a_text_setting_is_what_was_written(written):
    found = settings(f"text: {written}\nmaybe: {written}\nwords: [{written}]\nparts:\n  a: {{url: {written}}}\n")
    assert (found.text, found.maybe, found.words) == (written, written, [written])
    assert found.parts["a"].url == written


@pytest.mark.parametrize("written", AS_WRITTEN)
def test_the_environment_of_a_manifest_is_what_was_written(written, tmp_path):
    text = f"name: a\nscripts: {{start: x}}\nenv:\n  A: {written}\n  B: '{written}'\n"
    assert parse_manifest(text, tmp_path / "iii.worker.yaml").env == {"A": written, "B": written}


@pytest.mark.parametrize(
    "written, value",
    [("yes", True), ("off", False), ("true", True), ("TRUE", True), ("no", False)],
)
def test_true_and_false_have_every_spelling_where_they_are_wanted(written, value):
    assert settings(f"on: {written}\n").on is value


@pytest.mark.parametrize("written, value", [("1_000", 1000), ("0x10", 16), ("-3", -3), ("+7", 7)])
def test_numbers_have_every_spelling_where_they_are_wanted(written, value):
    assert settings(f"number: {written}\n").number == value


def test_without_a_wanted_type_words_are_what_yaml_1_2_says(tmp_path):
    block = "{a: no, b: 0755, c: 12:30, d: 1.10, e: 7, f: true, g: 2026-01-01, h: ~, i: 1e3, j: 0o17, k: .inf}"
    value = Tree(block, "f").value
    expected = {"a": "no", "b": "0755", "c": "12:30", "d": 1.1, "e": 7, "f": True, "g": "2026-01-01", "h": None}
    assert value == {**expected, "i": 1000.0, "j": 15, "k": float("inf")}


@pytest.mark.parametrize(
    "written", ['"${PORT:3111}"', "'${PORT:3111}'", "${PORT:3111}", "${PORT:-3111}", "0${PORT:}3111"]
)
def test_a_placeholder_for_a_number_may_have_quotes(written):
    text = f"workers:\n  - name: iii-worker-manager\n    config: {{port: {written}}}\n"
    if written.startswith("0"):
        with pytest.raises(ConfigError, match=r"config.port: expected a whole number, got the text"):
            parse(text, "config.yaml", {})
    else:
        assert parse(text, "config.yaml", {}).listeners[0].port == 3111
        assert parse(text, "config.yaml", {"PORT": "4000"}).listeners[0].port == 4000
        with pytest.raises(ConfigError, match=r"config.port"):
            parse(text, "config.yaml", {"PORT": "many"})


def test_a_number_in_quotes_of_its_own_is_text():
    with pytest.raises(ConfigError, match="number"):
        settings('number: "3111"\n')


@pytest.mark.parametrize(
    "variables, value",
    [({}, "3111"), ({"P": ""}, "3111"), ({"P": "1"}, "1")],
)
def test_a_shells_default_holds_for_an_empty_variable_too(variables, value):
    assert settings("text: ${P:-3111}\n", variables).text == value


@given(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=30),
    st.sampled_from(["${A}", '"${A}"', "'${A}'", "x${A}y"]),
)
def test_no_value_changes_the_structure_of_the_file(value, written):
    for block in (f"text: {written}  # ${{A}}\nnumber: 3\n", f"{{text: {written}, number: 3}}\n"):
        found = settings(block, {"A": value})
        assert (found.text, found.number) == (written.strip("\"'").replace("${A}", value), 3)


def test_a_placeholder_in_a_comment_is_never_looked_at():
    assert settings("text: x  # ${MISSING}\n# ${MISSING}\n").text == "x"


def test_a_placeholder_that_is_not_closed_on_its_line_means_nothing():
    assert settings("# use ${ to begin\ntext: x\nparts: {p: {url: y}}\n").parts["p"].url == "y"


def test_characters_that_stand_for_placeholders_are_only_text_in_a_file():
    assert settings('text: "\\ue0007\\ue001${A:x}"\n').text == "\ue0007\ue001x"


def test_a_variable_that_is_not_set_is_refused_at_its_own_line():
    with pytest.raises(
        ConfigError, match=r"config.yaml:4: \$.workers\[0\].config.a: environment variable MISSING is not"
    ):
        parse("workers:\n  - name: state\n    config:\n      a: ${MISSING}\n", "config.yaml", {})


def test_a_name_may_come_from_the_environment():
    assert parse("workers: [{name: ${W:state}}]", "f", {}).workers[0].name == "state"


def test_a_folder_may_look_like_a_number(tmp_path):
    (tmp_path / "config.yaml").write_text("workers:\n  - path: 1.10\n")
    assert load(tmp_path / "config.yaml", {}).workers[0].folder == tmp_path / "1.10"


def test_a_command_that_edits_the_file_reads_it_as_the_engine_does(monkeypatch):
    monkeypatch.setenv("A", "}]: {")
    layout = read("workers: [{name: state, config: {a: ${A}, b: ${UNSET}}}]\n", "config.yaml")
    assert layout.entries[0].value == {"name": "state", "config": {"a": "}]: {", "b": "${UNSET}"}}


def test_another_spelling_of_the_same_number_is_a_change(tmp_path):
    found = []
    for written in ("1.1", "1.10"):
        config = parse(f"workers:\n  - name: http\n    config: {{host: {written}}}\n", "f", {})
        load_worker(config.workers[0])
        found.append(config.workers[0].config)
    assert found == [{"host": "1.1"}, {"host": "1.10"}]
