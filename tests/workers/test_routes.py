"""The route table alone: precedence, conflicts, methods."""

import contextlib
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkly.errors import LinklyError
from linkly.trigger import Binding
from linkly_workers.http.routes import RouteTable


@pytest.fixture
def table():
    return RouteTable()


def add(table, *routes):
    for number, route in enumerate(routes):
        method, _, path = route.partition(" ")
        binding = Binding(id=f"{len(list(table))}-{number}", trigger_type="http", function_id=route, config=None)
        table.add(method, path, binding)
    return binding


def found(table, method, path):
    match = table.find(method, path)
    return (match.route.binding.function_id, match.path_params) if match and not isinstance(match, list) else match


def test_static_before_parameter_and_back_again(table):
    add(table, "GET /a/b", "GET /a/:x", "GET /:y/c", "GET /", "POST /a/b/:z/d")
    assert found(table, "GET", "/a/b") == ("GET /a/b", {})
    assert found(table, "GET", "/a/q") == ("GET /a/:x", {"x": "q"})
    assert found(table, "GET", "/q/c") == ("GET /:y/c", {"y": "q"})
    assert found(table, "GET", "/") == ("GET /", {})
    assert found(table, "POST", "/a/b/%C3%BC/d") == ("POST /a/b/:z/d", {"z": "ü"})
    assert found(table, "GET", "/a/b/") is None
    assert found(table, "GET", "/q/q/q") is None
    assert found(table, "GET", "/a//") is None


def test_the_allowed_methods_of_a_path(table):
    add(table, "POST /a", "GET /a", "DELETE /:x")
    assert sorted(table.find("PUT", "/a")) == ["DELETE", "GET", "HEAD", "POST"]
    assert found(table, "HEAD", "/a") == ("GET /a", {})
    assert found(table, "DELETE", "/a") == ("DELETE /:x", {"x": "a"})


@pytest.mark.parametrize(
    "route, part",
    [
        ("GET /a/:y", "conflicts"),
        ("BREW /a", "unknown"),
        ("GET /a/:", "no name"),
        ("GET /:a/:a", "twice"),
        ("GET /a/{id}", "`:name`"),
        ("GET /a/*", "`:name`"),
    ],
)
def test_a_route_that_cannot_be_is_refused_and_says_why(table, route, part):
    add(table, "GET /a/:x")
    with pytest.raises(LinklyError, match=part):
        add(table, route)
    assert found(table, "GET", "/a/1") == ("GET /a/:x", {"x": "1"})


def test_the_same_route_again_replaces_the_earlier_one(table):
    first = add(table, "GET /a")
    second = Binding(id="second", trigger_type="http", function_id="new", config=None)
    table.add("GET", "a", second)
    assert found(table, "GET", "/a") == ("new", {})
    table.remove(first.id)
    assert found(table, "GET", "/a") == ("new", {})
    table.remove(second.id)
    assert table.find("GET", "/a") is None


def test_a_route_goes_without_those_above_and_below_it(table):
    kept = add(table, "GET /a/:x")
    deep, above = add(table, "GET /a/:x/b/:y/c"), add(table, "PUT /a/:x/b")
    table.remove(deep.id)
    assert found(table, "PUT", "/a/1/b") == ("PUT /a/:x/b", {"x": "1"})
    table.remove(above.id)
    assert found(table, "GET", "/a/1") == ("GET /a/:x", {"x": "1"})
    table.remove(kept.id)
    assert (found(table, "GET", "/a/1"), list(table)) == (None, [])


def test_a_table_whose_routes_come_and_go_does_not_grow(table):
    def come_and_go(first):
        for number in range(first, first + 200):
            deep, above = add(table, f"GET /{number}/:x/b/:y/c"), add(table, f"PUT /{number}/:x/b")
            table.remove(deep.id)
            table.remove(above.id)

    come_and_go(0)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        come_and_go(200)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 20_000  # one node that stays of each of 200 routes is more than 50,000


def test_the_version_tells_whether_the_routes_have_changed(table):
    seen = [table.version]
    binding = add(table, "GET /a")
    seen.append(table.version)
    table.remove(binding.id)
    seen.append(table.version)
    table.remove(binding.id)
    assert len(set(seen)) == 3
    assert table.version == seen[-1]


SEGMENTS = st.sampled_from(["a", "b", "", ":x"])
PATHS = st.lists(SEGMENTS, min_size=1, max_size=3).map("/".join)


@given(st.lists(st.tuples(st.sampled_from(["GET", "HEAD", "POST"]), PATHS), max_size=8), st.data())
def test_a_path_leads_where_the_same_path_percent_encoded_leads(routes, data):
    table = RouteTable()
    for number, (method, path) in enumerate(routes):
        binding = Binding(id=str(number), trigger_type="http", function_id=f"{method} /{path}", config=None)
        with contextlib.suppress(LinklyError):
            table.add(method, path, binding)
    for route in list(table)[::3]:
        table.remove(route.binding.id)
    method, path = data.draw(st.sampled_from(["GET", "HEAD", "POST", "PUT"])), data.draw(PATHS)
    encoded = "/".join("".join(f"%{ord(letter):02X}" for letter in part) for part in path.split("/"))
    assert found(table, method, f"/{path}") == found(table, method, f"/{encoded}")
