"""How many lines one source may log, and what is said about the rest."""

import asyncio
import json
import logging

import pytest

from linkly.errors import LinklyError
from linkly.testing import ManualClock, settle
from linkly.trigger import Binding, TriggerType
from linkly_engine.core.records import BindingRecord, WorkerRecord
from linkly_engine.engine import Engine
from linkly_engine.local.provider import LocalProvider
from linkly_engine.telemetry.limits import BURST, LINES_PER_S, REPORT_S, LineFilter, LineLimits


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def limits(clock):
    return LineLimits(clock)


def reports(caplog):
    return [(record.worker, record.data) for record in caplog.records if "left out" in record.getMessage()]


async def test_a_source_may_log_a_burst(limits, clock):
    assert limits.admit("flooder", 2 * BURST) == BURST
    assert limits.admit("flooder") == 0
    await clock.advance(0.125)
    assert limits.admit("flooder", BURST) == LINES_PER_S // 8


def test_one_source_takes_nothing_from_another(limits):
    limits.admit("flooder", 2 * BURST)
    assert limits.admit("a", 5) == 5


async def test_what_was_left_out_is_told_in_one_line_a_second(limits, clock, caplog):
    limits.admit("c1", BURST + 7, name="flooder")
    for _ in range(3):
        limits.admit("c1", name="flooder")
    limits.admit("c2", 5, name="calm")
    assert reports(caplog) == []
    await clock.advance(REPORT_S)
    assert reports(caplog) == [("flooder", {"lines": 10})]
    await clock.advance(5 * REPORT_S)
    assert len(reports(caplog)) == 1
    assert limits.left_out == 10


async def test_a_source_that_is_silent_is_forgotten(limits, clock):
    for number in range(100):
        limits.admit(f"c{number}", 2 * BURST)
    await clock.advance(BURST / LINES_PER_S + 2 * REPORT_S)
    assert len(limits) == 0


def log_frame(count):
    records = [{"body": {"stringValue": f"line {number}"}, "severityNumber": 9} for number in range(count)]
    return b"LOGS" + json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}).encode()


async def test_of_a_frame_of_many_lines_the_first_are_kept(clock):
    async with Engine(clock=clock) as engine:
        engine.telemetry.ingest(log_frame(3 * BURST), lambda: "flooder", source="c1")
        engine.telemetry.ingest(log_frame(2), lambda: "calm", source="c2")
        statistics = engine.telemetry.statistics()
    assert statistics["log_records_kept"] == BURST + 2
    assert statistics["log_lines_left_out"] == 2 * BURST
    assert statistics["logs"]["records"] == 3 * BURST + 2


async def test_lines_logged_by_calls_are_limited_for_each_caller(clock):
    async with Engine(clock=clock) as engine:
        flooder, calm = engine.bus("flooder"), engine.bus("calm")
        for _ in range(BURST + 10):
            await flooder.trigger("engine::log::info", {"message": "again"})
        await calm.trigger("engine::log::info", {"message": "once"})
        assert engine.telemetry.statistics()["log_records_kept"] == BURST + 1


async def test_every_handler_writes_the_same_lines_of_a_flood(clock):
    class Kept(logging.Handler):
        def __init__(self):
            super().__init__()
            self.lines = []

        def emit(self, record):
            self.lines.append(record.getMessage())

    async with Engine(clock=clock) as engine:
        limited, handlers = LineFilter(), [Kept(), Kept()]
        log = logging.getLogger("linkly.worker.flooder")
        log.propagate = False
        log.setLevel(logging.INFO)
        for handler in handlers:
            handler.addFilter(limited)
            log.addHandler(handler)
        try:
            log.info("before there is a limit")
            limited.bind(engine.telemetry.limits)
            for number in range(BURST + 10):
                log.info("%d", number)
            limited.unbind()
            log.info("after it")
        finally:
            log.handlers.clear()
            log.propagate = True
            log.setLevel(logging.NOTSET)
    assert handlers[0].lines == handlers[1].lines
    assert handlers[0].lines == ["before there is a limit", *map(str, range(BURST)), "after it"]


async def test_a_provider_that_never_waits_leaves_the_loop_to_others_between_bindings():
    bound, turns = [], 0

    async def bind(binding: Binding) -> None:
        bound.append(binding.id)

    async def unbind(binding_id: object) -> None:
        raise LinklyError("nothing is unbound")

    async def others():
        nonlocal turns
        while len(bound) < count:
            turns += 1
            await asyncio.sleep(0)

    count = 20_000
    async with Engine() as engine:
        owner = WorkerRecord(name="p", namespace="default")
        provider = LocalProvider(TriggerType("t", "", bind=bind, unbind=unbind), owner, engine.exchange)
        for number in range(count):
            provider.bind(BindingRecord(id=f"b{number}", trigger_type="t", function_id="f"))
        await asyncio.gather(provider.acknowledged(), others())
    await settle()
    assert turns > 10
    assert bound == [f"b{number}" for number in range(count)]
