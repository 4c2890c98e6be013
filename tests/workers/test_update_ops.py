"""The operations of `state::update`, rule by rule (docs/workers.md#update-operations)."""

import copy

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkly_workers._update_ops import Operation, apply

MISSING = object()


def run(old, *operations):
    """The new value and the codes of what went wrong."""
    typed = msgspec.convert(list(operations), list[Operation])
    before = copy.deepcopy(typed)
    value, errors = apply(None if old is MISSING else msgspec.json.encode(old), typed)
    assert typed == before, "the operations are never changed"
    assert all(error.message and error.doc_url for error in errors)
    return value, [error.code for error in errors]


def op(kind, path=None, **fields):
    return {"type": kind, **({} if path is None else {"path": path}), **fields}


@pytest.mark.parametrize(
    "old, operation, new",
    [
        (MISSING, op("set", "a", value=1), {"a": 1}),
        ({"a": 1}, op("set", "", value=[2]), [2]),
        ({}, op("set", "a.b", value=1), {"a.b": 1}),
        ({"a": 1, "b": 2}, op("remove", "a"), {"b": 2}),
        ({"a": 1}, op("remove", "none"), {"a": 1}),
        ({"a": 1}, op("remove", ""), None),
        (MISSING, op("increment", "n", by=2), {"n": 2}),
        ({"n": 1}, op("increment", "n", by=2), {"n": 3}),
        ({"n": 1.5}, op("increment", "n", by=1), {"n": 2.5}),
        (5, op("decrement", "", by=7), -2),
        (MISSING, op("increment", "", by=3), 3),
        (MISSING, op("merge", value={"a": 1}), {"a": 1}),
        ({"a": {"x": 1}}, op("merge", value={"a": {"y": 2}}), {"a": {"y": 2}}),
        ({"a": {"x": 1}}, op("merge", "a", value={"y": 2}), {"a": {"x": 1, "y": 2}}),
        ({"a": 7}, op("merge", ["a", "b"], value={"y": 2}), {"a": {"b": {"y": 2}}}),
        (7, op("merge", value={"a": 1}), 7),
        ({"l": [1]}, op("append", "l", value=2), {"l": [1, 2]}),
        ({"l": "a"}, op("append", "l", value="b"), {"l": "ab"}),
        ({}, op("append", "l", value="b"), {"l": "b"}),
        ({}, op("append", "l", value=1), {"l": [1]}),
        ({"l": None}, op("append", "l", value=1), {"l": [1]}),
        ({}, op("append", ["a", "l"], value="b"), {"a": {"l": ["b"]}}),
        ([1], op("append", value=2), [1, 2]),
    ],
)
def test_an_operation_does_what_its_rule_says(old, operation, new):
    assert run(old, operation) == (new, [])


@pytest.mark.parametrize(
    "old, operation, code",
    [
        ([1], op("set", "a", value=1), "set.target_not_object"),
        ("x", op("remove", "a"), "remove.target_not_object"),
        (1, op("increment", "a", by=1), "increment.target_not_object"),
        ({"a": "x"}, op("increment", "a", by=1), "increment.not_number"),
        ({"a": True}, op("decrement", "a", by=1), "decrement.not_number"),
        ({"a": None}, op("increment", "a", by=1), "increment.not_number"),
        ({"a": 2**64 - 1}, op("increment", "a", by=1), "increment.not_number"),
        ({"a": 1}, op("merge", "a", value=[1]), "merge.value.not_an_object"),
        ({}, op("merge", value={str(n): n for n in range(1025)}), "merge.value.too_many_keys"),
        ({}, op("merge", value={"__proto__": 1}), "merge.value.proto_polluted"),
        ({}, op("merge", ["a", ""], value={}), "merge.path.empty_segment"),
        ({}, op("merge", ["a"] * 33, value={}), "merge.path.too_deep"),
        ({}, op("append", "x" * 257, value=1), "append.path.segment_too_long"),
        ({}, op("set", "constructor", value=1), "set.path.proto_polluted"),
        ({"l": {"a": 1}}, op("append", "l", value=1), "append.type_mismatch"),
        ({"l": "text"}, op("append", "l", value=1), "append.type_mismatch"),
        (5, op("append", "l", value=1), "append.target_not_object"),
    ],
)
def test_a_refused_operation_changes_nothing_and_has_its_code(old, operation, code):
    assert run(old, operation) == (old, [code])


def test_a_merge_nested_too_deep_is_refused():
    deep: dict = {}
    for _ in range(17):
        deep = {"a": deep}
    assert run({}, op("merge", value=deep)) == ({}, ["merge.value.too_deep"])


KINDS = {
    "set": {"value": 1},
    "merge": {"value": {"a": 1}},
    "increment": {"by": 1},
    "decrement": {"by": 1},
    "append": {"value": 1},
    "remove": {},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("segment", ["__proto__", "constructor", "prototype"])
def test_a_forbidden_segment_is_refused_by_each_operation(kind, segment):
    assert run({"x": 1}, op(kind, segment, **KINDS[kind])) == ({"x": 1}, [f"{kind}.path.proto_polluted"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_segment_has_at_most_256_bytes_for_each_operation(kind):
    assert run({}, op(kind, "ä" * 128, **KINDS[kind]))[1] == []
    assert run({}, op(kind, "ä" * 128 + "x", **KINDS[kind]))[1] == [f"{kind}.path.segment_too_long"]


@pytest.mark.parametrize("kind", ["set", "increment", "decrement", "remove"])
@pytest.mark.parametrize("root", [None, True, 1, 1.5, "x", [1]])
def test_a_field_of_a_root_that_is_no_object_is_refused(kind, root):
    assert run(root, op(kind, "a", **KINDS[kind])) == (root, [f"{kind}.target_not_object"])


@pytest.mark.parametrize("path", [{}, {"path": ""}, {"path": []}, {"path": None}])
@pytest.mark.parametrize("root", [None, 7, "x", [1]])
def test_a_merge_at_the_root_is_the_same_for_every_way_to_say_root(path, root):
    merge = {"type": "merge", "value": {"b": 2}, **path}
    assert run({"a": 1}, merge) == ({"a": 1, "b": 2}, [])
    assert run(MISSING, merge) == ({"b": 2}, [])
    assert run(root, merge) == (root, [])


@pytest.mark.parametrize(
    "found, text, other",
    [
        ([], ["v"], [[1]]),
        ([0], [0, "v"], [0, [1]]),
        ("t", "tv", "append.type_mismatch"),
        (None, "v", [[1]]),
        (MISSING, "v", [[1]]),
        ({}, "append.type_mismatch", "append.type_mismatch"),
        (5, "append.type_mismatch", "append.type_mismatch"),
        (True, "append.type_mismatch", "append.type_mismatch"),
    ],
)
@pytest.mark.parametrize("where", ["root", "field", "deep"])
def test_the_append_matrix(found, text, other, where):
    for value, expected in (("v", text), ([1], other)):
        if where == "deep" and found is MISSING:
            expected = [value]
        path = {"root": [], "field": ["a.b"], "deep": ["x", "l"]}[where]

        def inside(content, where=where):
            if where == "root":
                return content
            if where == "field":
                return {} if content is MISSING else {"a.b": content}
            return {"x": {} if content is MISSING else {"l": content}}

        new, codes = run(inside(found), op("append", path, value=value))
        refused = expected == "append.type_mismatch"
        assert codes == ([expected] if refused else [])
        assert new == inside(found if refused else expected)


@pytest.mark.parametrize("between", [None, 1, "x", [1]])
@pytest.mark.parametrize("operation", [op("merge", ["a", "b"], value={"c": 1}), op("append", ["a", "b", "l"], value=1)])
def test_what_is_no_object_on_a_nested_path_is_replaced_by_one(between, operation):
    value, codes = run({"a": between, "z": 1}, operation)
    assert (value["a"], codes) == ({"b": {"c": 1} if operation["type"] == "merge" else {"l": [1]}}, [])
    assert value["z"] == 1


@pytest.mark.parametrize(
    "old, operation, new",
    [
        ({"n": 2**63 - 1}, op("increment", "n", by=1), 2**63),
        ({"n": 2**64 - 2}, op("increment", "n", by=1), 2**64 - 1),
        ({"n": 2**64 - 1}, op("decrement", "n", by=1), 2**64 - 2),
        ({}, op("decrement", "n", by=-(2**63)), 2**63),
        ({"n": -(2**63)}, op("decrement", "n", by=1), None),
        ({"n": 2**64 - 1}, op("increment", "n", by=1), None),
        ({"n": 0}, op("increment", "n", by=0), 0),
        ({"n": None}, op("increment", "n", by=0), None),
        ({"n": 1e308}, op("increment", "n", by=2**63 - 1), 1e308),
    ],
)
def test_numbers_are_exact_up_to_64_bits_and_refused_beyond(old, operation, new):
    value, codes = run(old, operation)
    assert codes == ([f"{operation['type']}.not_number"] if new is None else [])
    assert value == (old if new is None else {"n": new})


def test_limits_are_reached_exactly():
    deep: dict = {}
    for _ in range(15):
        deep = {"a": deep}
    assert run({}, op("merge", value=deep))[1] == []
    assert run({}, op("merge", value={str(n): n for n in range(1024)}))[1] == []
    assert run({}, op("merge", ["a"] * 32, value={}))[1] == []
    assert run({}, op("merge", value={"a": {"__proto__": 1}}))[1] == [], "deeper ones are allowed"


def test_many_operations_on_one_list_do_not_change_the_operations():
    child = {"l": [1]}
    operations = [op("set", "a", value=child), *(op("append", ["a", "l"], value=n) for n in range(100))]
    assert run({}, *operations)[0] == {"a": {"l": [1, *range(100)]}}
    assert child == {"l": [1]}


def test_the_other_operations_run_when_one_fails():
    value, codes = run({"a": "x"}, op("increment", "a", by=1), op("set", "b", value=2))
    assert (value, codes) == ({"a": "x", "b": 2}, ["increment.not_number"])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
paths = st.text(max_size=4) | st.lists(st.text(max_size=4), max_size=3)
operations = st.one_of(
    st.builds(lambda path, value: op("set", path, value=value), st.text(max_size=4), json_values),
    st.builds(lambda path, value: op("merge", path, value=value), paths, json_values),
    st.builds(lambda path, value: op("append", path, value=value), paths, json_values),
    st.builds(lambda path, by: op("increment", path, by=by), st.text(max_size=4), st.integers(-9, 9)),
    st.builds(lambda path: op("remove", path), st.text(max_size=4)),
)


@given(old=json_values, given_operations=st.lists(operations, max_size=5))
def test_any_operations_on_any_value_end(old, given_operations):
    value, codes = run(old, *given_operations)
    failed = {
        error.op_index
        for error in apply(msgspec.json.encode(old), msgspec.convert(given_operations, list[Operation]))[1]
    }
    assert len(failed) == len(codes)
    kept = [each for index, each in enumerate(given_operations) if index not in failed]
    assert run(old, *kept) == (value, [])
