"""Everything that does not fit a worker's settings is told at once, with the keys that lead to it."""

from typing import Annotated, Literal

import msgspec
import pytest

from linkly import Settings
from linkly.errors import ConfigError
from linkly.schema import read_settings
from linkly.settings_problems import problems_in


class Pool(Settings):
    max: Annotated[int, msgspec.Meta(ge=1)] = 10
    wait_ms: int = 5

    def __post_init__(self):
        if self.wait_ms == self.max:
            raise ValueError("wait_ms: is the same as max")
        if self.max == 77:
            raise ValueError("this pool is unlucky")


class Database(Settings):
    url: str
    pool: Pool = msgspec.field(default_factory=Pool)
    mode: Literal["fast", "safe"] = "safe"


class Worker(Settings):
    databases: dict[str, Database] = {}
    hosts: list[str] = []
    port: int = 1
    other: Pool | None = None


def told(block):
    return {"".join(f".{step}" for step in place): reason for place, reason in problems_in(Worker, block)}


def test_a_block_that_fits_has_no_problems():
    assert problems_in(Worker, {"port": 5, "databases": {"a": {"url": "x"}}}) == []


def test_every_problem_is_told():
    found = told({"port": "x", "prt": 1, "hosts": ["a", 5, "b", 6], "databases": {"a": {"url": 1}}})
    assert sorted(found) == [".databases.a.url", ".hosts.1", ".hosts.3", ".port", ".prt"]


def test_a_key_of_a_mapping_with_any_keys_is_found():
    found = told({"databases": {"good": {"url": "x"}, "bad": {"url": "x", "pool": {"max": 0}}, "worse": {"url": 2}}})
    assert sorted(found) == [".databases.bad.pool.max", ".databases.worse.url"]


def test_an_unknown_key_is_told_with_those_of_its_own_level():
    found = told({"databases": {"a": {"url": "x", "pool": {"size": 3}}}, "other": {"mx": 1}})
    assert found[".databases.a.pool.size"] == "unknown key; allowed here: max, wait_ms"
    assert found[".other.mx"] == "unknown key (`max`?); allowed here: max, wait_ms"


def test_a_value_that_is_none_of_a_few_is_told_with_those():
    assert told({"databases": {"a": {"url": "x", "mode": "slow"}}})[".databases.a.mode"].endswith("allowed: fast, safe")


def test_a_key_that_is_missing_is_told_of_what_lacks_it():
    assert told({"databases": {"a": {}, "b": {"url": 5}}}) == {
        ".databases.a": "`url` is missing",
        ".databases.b.url": "expected text, got 5",
    }


def test_a_check_of_ones_own_is_about_the_key_that_it_names():
    assert told({"other": {"wait_ms": 3, "max": 3}}) == {".other.wait_ms": "is the same as max"}
    assert told({"other": {"max": 77}}) == {".other": "this pool is unlucky"}


def test_the_block_is_left_as_it_is():
    block = {"hosts": [1, "a"], "prt": 1}
    problems_in(Worker, block)
    assert block == {"hosts": [1, "a"], "prt": 1}


@pytest.mark.parametrize("block", [5, [1], "x", {1: 2}, {"databases": [1]}, {"databases": {5: {"url": "x"}}}])
def test_what_is_no_block_at_all_is_told_too(block):
    with pytest.raises(ConfigError) as caught:
        read_settings(Worker, block, "$")
    assert caught.value.message.startswith("$")


def test_an_error_has_a_line_for_each_problem():
    with pytest.raises(ConfigError) as caught:
        read_settings(Worker, {"port": "x", "prt": 1}, "$.config")
    lines = caught.value.message.splitlines()
    assert sorted(line.split(": ")[0] for line in lines) == ["$.config.port", "$.config.prt"]
    assert sorted(problem["key"] for problem in caught.value.details["problems"]) == [".port", ".prt"]


class Bounded(Settings):
    share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    name: Annotated[str, msgspec.Meta(min_length=2)] = "ab"
    tags: Annotated[list[str], msgspec.Meta(max_length=1)] = []
    on: bool | None = None
    either: int | str = 1


@pytest.mark.parametrize(
    "block, reason",
    [
        ({"share": 0}, "expected a number above 0, got 0"),
        ({"share": 1.5}, "expected a number of at most 1, got 1.5"),
        ({"share": "much"}, "expected a number, got the text 'much'"),
        ({"name": "a"}, "expected text with a length of at least 2, got the text 'a'"),
        ({"tags": ["a", "b"]}, "expected a list with a length of at most 1, got a list"),
        ({"on": 1}, "expected `true` or `false`, got 1"),
        ({"on": []}, "expected `true` or `false`, got a list"),
        ({"either": None}, "expected a whole number or text, got nothing"),
        ({"either": True}, "expected a whole number or text, got true"),
    ],
)
def test_a_reason_has_the_words_of_who_writes_the_file(block, reason):
    assert [told for _, told in problems_in(Bounded, block)] == [reason]


def test_a_text_in_the_place_of_a_mapping_is_not_shown_because_it_may_hold_a_password():
    assert told({"databases": {"a": "sqlite://user:secret@host"}}) == {
        ".databases.a": "expected a mapping, got text",
    }


class AtLeastOne(Settings):
    databases: dict[str, Database]

    def __post_init__(self):
        if not self.databases:
            raise ValueError("databases: declare at least one")


def test_what_only_lacks_the_parts_that_do_not_fit_is_not_told_as_well():
    found = problems_in(AtLeastOne, {"databases": {"a": {"url": 5}}})
    assert found == [(["databases", "a", "url"], "expected text, got 5")]
    assert problems_in(AtLeastOne, {"databases": {}}) == [(["databases"], "declare at least one")]
