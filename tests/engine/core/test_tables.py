"""The tables by themselves: what each change leads to, and that every observer is told it in order."""

import pytest

from linkly.bus import Json
from linkly.errors import FunctionConflict
from linkly_engine.core.changes import (
    BindingLive,
    BindingRefused,
    BindingTakenBack,
    FunctionGone,
    FunctionHandedOn,
    FunctionServed,
    TypeGone,
    TypeProvided,
    WorkerGone,
    WorkerHere,
)
from linkly_engine.core.records import BindingRecord, BindingState, FunctionRecord, TypeRecord, WorkerRecord
from linkly_engine.core.tables import Tables


async def endpoint(invocation):
    return None


async def stand_in(invocation):
    return None


def function(owner, function_id="a::b"):
    return FunctionRecord(id=function_id, namespace="default", endpoint=endpoint, owner=owner)


def kind(owner, type_id="t"):
    return TypeRecord(id=type_id, namespace="default", provider=None, owner=owner)


def binding(owner, binding_id="1", function_id="a::b"):
    return BindingRecord(id=binding_id, trigger_type="t", function_id=function_id, owner=owner)


@pytest.fixture
def tables():
    return Tables()


@pytest.fixture
def told(tables):
    """What an observer is told."""
    changes = []
    tables.observe(changes.append)
    return changes


@pytest.fixture
def worker(tables):
    return WorkerRecord(name="first", namespace="default")


@pytest.fixture
def other(tables):
    return WorkerRecord(name="second", namespace="default")


def test_a_function_is_new_once(tables, told, worker):
    tables.add_function(function(worker))
    tables.add_function(function(worker))
    assert [(type(change), change.new) for change in told] == [(FunctionServed, True), (FunctionServed, False)]


def test_a_function_that_waits_is_told_when_it_is_served(tables, told, worker, other):
    tables.add_function(function(worker))
    with pytest.raises(FunctionConflict):
        tables.add_function(function(other))
    tables.keep_waiting(function(other))
    told.clear()
    tables.remove_function("default", "a::b", worker)
    assert [(type(change), change.function.owner) for change in told] == [(FunctionHandedOn, other)]
    tables.drop_functions(other)
    assert isinstance(told[-1], FunctionGone)


def test_a_trigger_follows_the_function_that_is_handed_on(tables, told, worker, other):
    tables.add_type(kind(worker))
    tables.add_function(function(worker))
    tables.keep_waiting(function(other))
    waiting = binding(other)
    tables.bind(waiting)
    assert waiting.state is BindingState.WAITS_FOR_FUNCTION
    told.clear()
    tables.drop_functions(worker)
    assert [type(change) for change in told] == [FunctionHandedOn, BindingLive]
    assert waiting.state is BindingState.LIVE


def test_a_type_says_how_many_triggers_of_remote_workers_have_waited_for_it(tables, told, worker, other):
    tables.bind(binding(worker, "1"))
    tables.bind(binding(WorkerRecord(in_process=True), "2"))
    tables.bind(binding(None, "3"))
    tables.add_type(kind(other))
    assert [type(change) for change in told] == [BindingLive] * 3 + [TypeProvided]
    assert told[-1].ended_waits == 1


def test_a_refused_binding_waits_for_another_provider(tables, told, worker, other):
    tables.add_type(kind(worker))
    refused = binding(other)
    tables.bind(refused)
    tables.refuse("1", other, Json(b"{}"))
    assert refused.state is BindingState.LIVE  # not that worker's to refuse
    tables.refuse("1", worker, Json(b"{}"))
    assert refused.state is BindingState.REFUSED
    assert isinstance(told[-1], BindingRefused)
    tables.add_type(kind(other))
    assert refused.state is BindingState.LIVE


def test_a_worker_that_goes_leaves_only_what_is_not_its_own(tables, told, worker, other):
    tables.add_worker(worker)
    tables.add_type(kind(worker))
    tables.add_function(function(worker))
    tables.bind(binding(worker, "own"))
    foreign = binding(other, "foreign")
    tables.bind(foreign)
    told.clear()
    tables.forget(worker)
    tables.forget(worker)
    assert [type(change) for change in told] == [TypeGone, FunctionGone, WorkerGone]
    assert [each.id for each in tables.triggers.bindings] == ["foreign"]
    assert foreign.state is BindingState.WAITS_FOR_TYPE
    assert (len(tables.functions), len(tables.workers)) == (0, 0)


@pytest.mark.parametrize("keeps_bindings", [True, False])
def test_a_stand_in_has_what_an_ending_worker_had(tables, told, worker, other, keeps_bindings):
    tables.add_type(kind(other))
    tables.add_function(function(worker, "a::b"))
    tables.add_function(function(worker, "a::c"))
    tables.keep_waiting(function(other, "a::c"))
    bound = binding(worker)
    tables.bind(bound)
    told.clear()
    owner = tables.stand_in(worker, lambda before: stand_in, keeps_bindings=keeps_bindings)
    record = tables.functions.find("default", "a::b")
    assert (record.owner, record.endpoint) == (owner, stand_in)
    heir = tables.functions.find("default", "a::c").owner
    if keeps_bindings:
        assert (heir, bound.owner, bound.state) == (owner, owner, BindingState.LIVE)
        assert [type(change) for change in told] == [FunctionServed, FunctionServed]
    else:
        assert (heir, tables.triggers.find_binding("1")) == (other, None)
        assert [type(change) for change in told[2:]] == [BindingTakenBack, FunctionHandedOn]
    tables.add_function(function(other, "a::b"))  # its owner lives no longer: no conflict
    tables.drop_triggers(owner)
    tables.drop_functions(owner)
    assert tables.functions.find("default", "a::b").owner is other
    assert tables.triggers.find_binding("1") is None


def test_observers_are_told_in_order_what_one_of_them_changes(tables, worker):
    first, second = [], []

    def answer(change):
        first.append(type(change))
        if isinstance(change, WorkerHere):
            tables.add_function(function(worker))

    tables.observe(answer)
    tables.observe(lambda change: second.append(type(change)))
    tables.add_worker(worker)
    assert (first, second) == ([], [])  # it may only call
    tables.join(worker)
    assert first == second == [WorkerHere, FunctionServed]


def test_an_observer_that_raises_keeps_no_other_from_a_change(tables, worker, caplog):
    gone = []

    def failing(change):
        raise ValueError(change)

    tables.observe(failing)
    tables.observe(gone.append, FunctionGone)
    tables.add_function(function(worker))
    tables.drop_functions(worker)
    assert [type(change) for change in gone] == [FunctionGone]
    assert caplog.text.count("an observer of the tables failed") == 2
