"""The words behind `linkly trigger` (docs/workers.md#command-line)."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkly_engine.cli.arguments import parse, typed
from linkly_engine.cli.tinyjson import dumps, loads
from linkly_engine.cli.usage import UsageError


def payload(*words, schema=None):
    return parse(["f::x", *words]).payload(schema)


@pytest.mark.parametrize(
    "word, expected",
    [
        ("url=https://x?a=b", {"url": "https://x?a=b"}),
        ("a=10", {"a": 10}),
        ("b=true", {"b": True}),
        ("c=[1,2]", {"c": [1, 2]}),
        ('d={"x":1}', {"d": {"x": 1}}),
        ("e=null", {"e": None}),
        ('f="s"', {"f": "s"}),
        ("g=1.0", {"g": 1.0}),
        ("name=alice", {"name": "alice"}),
        ("code=007", {"code": "007"}),
        ("x=", {"x": ""}),
        ("a.b=1", {"a.b": 1}),
        ("n=NaN", {"n": "NaN"}),
        ("t=GET /s/:code", {"t": "GET /s/:code"}),
    ],
)
def test_a_value_is_json_if_it_is_json_else_text(word, expected):
    assert payload(word) == expected


def test_the_last_of_equal_keys_wins():
    assert payload("a=1", "a=2") == {"a": 2}
    assert payload() == {}


@pytest.mark.parametrize("written", ["[1]", '"text"', "null", '{"a":1}'])
def test_json_alone_may_be_any_value(written):
    assert payload("--json", written) == json.loads(written)
    assert payload(f"--json={written}") == json.loads(written)


def test_pairs_override_members_of_json():
    assert payload("--json", '{"a":1,"b":2}', "b=3") == {"a": 1, "b": 3}


@pytest.mark.parametrize(
    "words, text, exit_code",
    [
        (["f", "x"], "expected key=value, got `x`", 1),
        (["f", "=v"], "payload key must not be empty (got `=v`)", 1),
        (["f", "--json", "{"], "--json: invalid JSON `{`", 1),
        (["f", "--nope"], "unknown option `--nope`", 2),
        (["--function-id", "f"], "unknown option", 2),
        (["f", "--json"], "--json needs a value", 2),
        (["f", "--port", "x"], "--port: expected a whole number", 2),
        (["f", "--port", "70000"], "70000 is no port", 2),
        (["f", "--timeout-ms=-1"], "--timeout-ms", 2),
    ],
)
def test_a_wrong_command_line_says_what_is_wrong(words, text, exit_code):
    with pytest.raises(UsageError) as caught:
        parse(words)
    assert text in str(caught.value)
    assert caught.value.exit_code == exit_code


def test_json_that_is_no_object_does_not_go_with_pairs():
    with pytest.raises(UsageError, match="--json must be an object when combined with kv pairs"):
        payload("--json", "[1]", "a=1")


def test_flags_may_stand_anywhere():
    arguments = parse(["--port", "1", "f::x", "-n", "ns", "a=1", "--address=::1", "--timeout-ms", "5"])
    assert (arguments.function_id, arguments.port, arguments.namespace) == ("f::x", 1, "ns")
    assert (arguments.address, arguments.timeout_ms, arguments.pairs) == ("::1", 5, [("a", "1")])


@pytest.mark.parametrize(
    "text, schema, expected",
    [
        ("123456", {"type": "string"}, "123456"),
        ("123456", {"anyOf": [{"type": "string"}, {"type": "null"}]}, "123456"),
        ("null", {"anyOf": [{"type": "string"}, {"type": "null"}]}, None),
        ("null", {"type": "string"}, "null"),
        ("true", {"type": ["string", "boolean"]}, True),
        ("1", {"type": "number"}, 1),
        ("[1]", {"type": "string"}, "[1]"),
        ("5", {"enum": ["5", "6"]}, "5"),
        ("5", {}, 5),
        ("5", None, 5),
        ("5", {"$ref": "#/$defs/Code"}, "5"),
        ("5", {"anyOf": [{"type": "string"}, {}]}, 5),
    ],
)
def test_the_schema_decides_first(text, schema, expected):
    assert typed(text, schema, {"$defs": {"Code": {"type": "string"}}}) == expected


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(_json)
def test_our_json_is_the_same_as_the_standard_librarys(value):
    assert json.loads(dumps(value)) == value
    assert loads(json.dumps(value)) == value
    assert dumps(value, indent=2) == json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)


@given(st.text())
def test_text_that_is_no_json_is_refused_as_the_standard_library_does(text):
    try:
        expected = json.loads(text, parse_constant=lambda name: 1 / 0)
    except (ValueError, ZeroDivisionError):
        with pytest.raises(ValueError, match=r"."):
            loads(text)
    else:
        assert loads(text) == expected
