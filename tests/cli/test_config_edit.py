"""Editing config.yaml as text: whatever the user wrote beside the one entry stays, byte by byte."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from linkly.errors import ConfigError
from linkly_engine.project.edit.edit import add_entry, remove_entry, replace_entry
from linkly_engine.project.edit.layout import read

NEW = {"name": "added", "config": {"a": {"b": 1, "c": "x: y # z"}, "list": [1, {"d": None}]}}

comments = st.sampled_from(["# plain", "#", "# - name: off", "# workers:", "# {a: [1, 2}, 'x", "# ünï ${NOT_SET:x}"])
scalars = st.sampled_from(
    [
        "1",
        "'quoted # not a comment'",
        '"d\\"q: {x}"',
        "plain text",
        "${PORT:3111}",
        "${HOST:127.0.0.1}",
        "[1, 2]",
        "{x: 1, 'y': [a, b]}",
        "~",
        "",
        "&here{n} 5",
        "2020-01-01",
        ".nan",
        "a\n{i}  continued",
        '"two\n{i}  lines"',
    ]
)
texts = st.sampled_from(
    ["|\n{i}text\n\n{i}- name: no\n", ">-\n{i}folded\n{i}text\n", "|2-\n{i}  deeper\n", "|+\n{i}keep\n\n"]
)


@st.composite
def blanks(draw, indent):
    """Empty lines and comments."""
    lines = draw(st.lists(st.one_of(st.just(""), comments.map(lambda text: " " * indent + text)), max_size=3))
    return "".join(line + "\n" for line in lines)


@st.composite
def entries(draw, column, gap, number):
    """One entry in block style."""
    dash, inside = " " * column, " " * (column + gap)
    name = f"w{number}"
    style = draw(st.sampled_from(["plain", "plain", "plain", "flow", "below", "quoted"]))
    trailing = draw(st.sampled_from(["", "  # trailing, with {brace"]))
    if style == "flow":
        return f"{dash}- {{name: {name}, config: {{x: [1, 2]}}}}{trailing}\n"
    if style == "below":
        return f"{dash}- # a dash alone\n{dash}  name: {name}\n"
    shown = f'"{name}"' if style == "quoted" else name
    text = f"{dash}-{' ' * (gap - 1)}name: {shown}{trailing}\n"
    if draw(st.booleans()):
        text += draw(blanks(column + gap)) + f"{inside}config:\n"
        for index in range(draw(st.integers(1, 3))):
            deeper = column + gap + 2
            if draw(st.integers(0, 4)) == 0:
                text += f"{' ' * deeper}k{index}: " + draw(texts).replace("{i}", " " * (deeper + 2))
            else:
                value = draw(scalars).replace("{i}", " " * (deeper + 2)).replace("{n}", f"{number}{index}")
                text += f"{' ' * deeper}k{index}: {value}{trailing if value != '' else ''}\n"
    return text


@st.composite
def block_configs(draw):
    """A config.yaml in block style, as untidy as people write them."""
    column, gap = draw(st.sampled_from([(2, 2), (0, 2), (4, 2), (2, 4), (1, 3)]))
    text = draw(blanks(0))
    if draw(st.booleans()):
        text += "registration_namespace_grace_ms: 5000  # before\n"
    text += draw(st.sampled_from(["workers:\n", "workers:   # these\n", "'workers':\n", "workers: &all\n"]))
    separated = draw(st.booleans())
    for number in range(draw(st.integers(1, 4))):
        text += draw(blanks(column)) if not separated else "\n" * bool(number)
        text += draw(entries(column, gap, number))
        text += draw(blanks(column + gap))
    text += draw(blanks(draw(st.sampled_from([0, column, column + 4]))))
    if draw(st.booleans()):
        text += "registration: {of: 'other'}\n" + draw(blanks(0))
    return finished(draw, text)


def finished(draw, text):
    bare = text.removesuffix("\n")
    # Without its line end a text in `|` style says something else, and no entry can follow it.
    if draw(st.booleans()) and repr(read(bare, "c").value) == repr(read(text, "c").value):
        text = bare
    return text.replace("\n", "\r\n") if draw(st.booleans()) else text


def names(text):
    return [entry.value["name"] for entry in read(text, "c").entries]


@given(block_configs())
@example("workers: []")
@example("workers: []\r\n")
@example("# top\nworkers: []  # none yet\n# end")
@example("workers:\n  - name: w0\n  # - name: off\n\n# end\n")
@example("\ufeffworkers:\n- name: w0\nmodules: []\n")
def test_adding_and_removing_gives_the_same_bytes_back(text):
    before = read(text, "c")
    added = add_entry(before, NEW)
    assert [entry.value for entry in added.entries][-1] == NEW
    assert all(line in added.text.splitlines() for line in text.splitlines() if "name: w0" in line and "]" not in line)
    assert remove_entry(added, added.entries[-1]).text == text


@given(block_configs(), st.data())
def test_removing_any_entry_leaves_all_others_as_they_are_written(text, data):
    before = read(text, "c")
    chosen = data.draw(st.sampled_from(before.entries))
    after = remove_entry(before, chosen)
    assert [repr(entry.value) for entry in after.entries] == [
        repr(entry.value) for entry in before.entries if entry is not chosen
    ]
    kept = [text[entry.start : entry.end] for entry in before.entries if entry is not chosen]
    assert all(part in after.text for part in kept)
    assert "\r" not in after.text or "\n" not in after.text.replace("\r\n", "")


def test_the_last_line_of_a_text_keeps_its_end_when_the_entry_below_goes():
    above = "workers:\n  - name: w0\n    config:\n      k: |\n        text\n"
    before = read(above + "  - name: w1", "c")
    assert remove_entry(before, before.entries[1]).text == above


@given(block_configs(), st.data())
def test_replacing_an_entry_changes_its_own_text_only(text, data):
    before = read(text, "c")
    chosen = data.draw(st.sampled_from(before.entries))
    after = replace_entry(before, chosen, NEW)
    assert after.text.startswith(text[: chosen.start])
    assert after.text.endswith(text[chosen.end :])


@pytest.mark.parametrize(
    "text",
    ["workers: [{name: w0}]\n", "{workers: []}\n", "{}\n", "workers: [\n  # none yet\n]\n", "{modules: [{name: w0}]}"],
)
def test_entries_in_brackets_are_left_to_people(text):
    layout = read(text, "c")
    with pytest.raises(ConfigError, match="c: its workers stand in brackets; write them one below the other"):
        add_entry(layout, NEW)
    for entry in layout.entries:
        with pytest.raises(ConfigError, match="stand in brackets"):
            remove_entry(layout, entry)
        with pytest.raises(ConfigError, match="stand in brackets"):
            replace_entry(layout, entry, NEW)


def test_a_block_text_gets_no_blank_line_of_an_entry_removed_below_it():
    before = read("workers:\n  - name: w0\n    config:\n      k0: |+\n        keep\n\n  - name: w1\n\n\n", "c")
    assert remove_entry(before, before.entries[1]).text == before.text[: before.text.index("  - name: w1")]
