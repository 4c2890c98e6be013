"""Log records: kept within bounds, listed, logged by function, and delivered to triggers."""

import asyncio
import logging

import pytest

from linkly import Function, LinklyError, Worker, function, trigger
from linkly.bus import Invocation
from linkly.context import current_invocation
from linkly.testing import ManualClock, running_engine, settle, wired
from linkly_engine.engine import Engine
from linkly_engine.telemetry.capture import Capture
from linkly_engine.telemetry.logs import BODY_CHARACTERS, ENTRY_BYTES, LogQuery, LogStore
from linkly_engine.telemetry.record import LogRecord

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
START_MS = 1_700_000_000_000


def record(body="x", at_ms=START_MS, severity=9, level="INFO", **fields):
    at = at_ms * 1_000_000
    return LogRecord(
        timestamp_unix_nano=at,
        observed_timestamp_unix_nano=at,
        severity_number=severity,
        severity_text=level,
        body=body,
        **{"attributes": {}, **fields},
    )


async def listed(bus, **query):
    return [row["body"] for row in (await bus.trigger("engine::logs::list", query))["logs"]]


# --- the store ---------------------------------------------------------------------------------------------


def test_the_oldest_records_go_when_there_are_too_many():
    store = LogStore(max_records=3)
    for number in range(5):
        store.add(record(str(number)))
    assert [entry.text.count(b'"4"') for entry in store.find(LogQuery())[0]] == [1, 0, 0]
    assert (len(store), store.dropped) == (3, 2)


def test_the_oldest_records_go_when_they_take_too_much_memory():
    store = LogStore(max_bytes=100_000)
    for _ in range(500):
        store.add(record("x" * 1000))
        assert store.bytes <= 100_000
    assert 50 < len(store) < 90
    assert store.bytes == sum(len(entry.text) + ENTRY_BYTES for entry in store.find(LogQuery())[0])
    assert store.clear() == 500 - store.dropped
    assert (len(store), store.bytes) == (0, 0)


def test_a_record_that_is_too_large_is_cut_and_says_so():
    store = LogStore()
    assert b"9 more characters" in store.add(record("x" * (BODY_CHARACTERS + 9))).text
    huge = store.add(record("kept", attributes={"blob": "y" * 1_000_000}))
    assert b"were left out" in huge.text
    assert b'"kept"' in huge.text
    assert len(huge.text) < 1000


def test_a_record_without_a_json_form_is_kept_with_what_has_one():
    circle = []
    circle.append(circle)
    for attributes in ({"a": circle}, {"a": "\ud800"}, {(1, 2): 3}):
        assert b'"body":"still here"' in LogStore().add(record("still here", attributes=attributes)).text


def test_terminal_codes_are_taken_out():
    text = LogStore().add(record("\x1b[31mred\x1b[0m \x1b]0;title\x07and \x9b1mbold")).text
    assert b'"body":"red and bold"' in text


# --- listing -----------------------------------------------------------------------------------------------


async def test_records_are_listed_the_newest_first_whenever_they_came_in():
    async with Engine(clock=ManualClock()) as engine:
        for at in (5, 1, 9, 5):
            engine.telemetry.add(record(f"at {at}", START_MS + at))
        page = await engine.bus("test").trigger("engine::logs::list")
    assert [row["body"] for row in page["logs"]] == ["at 9", "at 5", "at 5", "at 1"]
    assert (page["total"], page["timestamp"]) == (4, START_MS)
    assert page["logs"][0] == {
        "timestamp_unix_nano": (START_MS + 9) * 1_000_000,
        "observed_timestamp_unix_nano": (START_MS + 9) * 1_000_000,
        "severity_number": 9,
        "severity_text": "INFO",
        "body": "at 9",
        "attributes": {},
        "trace_id": None,
        "span_id": None,
        "resource": {},
        "service_name": "unknown",
        "instrumentation_scope_name": None,
    }


@pytest.mark.parametrize(
    "query, wanted",
    [
        ({"start_time": START_MS + 2}, ["error", "warn"]),
        ({"end_time": START_MS + 2}, ["warn", "info", "debug"]),
        ({"start_time": START_MS + 0.5, "end_time": START_MS + 1}, ["info"]),
        ({"trace_id": TRACE}, ["error", "info"]),
        ({"trace_id": TRACE.upper()}, ["error", "info"]),
        ({"span_id": SPAN}, ["error"]),
        ({"trace_id": TRACE, "severity_min": 17}, ["error"]),
        ({"severity_min": 13}, ["error", "warn"]),
        ({"severity_min": "warn"}, ["error", "warn"]),
        ({"severity_text": "warn"}, ["warn"]),
        ({"severity_text": "WARNING"}, ["warn"]),
        ({"severity_text": "Error"}, ["error"]),
        ({"severity_text": "none such"}, []),
        ({"offset": 1, "limit": 2}, ["warn", "info"]),
        ({"limit": 0}, []),
        ({"offset": 9}, []),
    ],
)
async def test_records_are_found_by(query, wanted):
    async with Engine() as engine:
        engine.telemetry.add(record("debug", START_MS, 5, "DEBUG"))
        engine.telemetry.add(record("info", START_MS + 1, trace_id=TRACE))
        engine.telemetry.add(record("warn", START_MS + 2, 13, "WARN"))
        engine.telemetry.add(record("error", START_MS + 3, 17, "ERROR", trace_id=TRACE, span_id=SPAN))
        bus = engine.bus("test")
        assert await listed(bus, **query) == wanted
        if not {"offset", "limit"} & set(query):
            assert (await bus.trigger("engine::logs::list", query))["total"] == len(wanted)


@pytest.mark.parametrize("query", [{"limit": -1}, {"offset": -1}, {"limit": "many"}])
async def test_a_query_that_makes_no_sense_is_refused(query):
    async with running_engine() as bus:
        with pytest.raises(LinklyError, match=next(iter(query))):
            await bus.trigger("engine::logs::list", query)


async def test_records_can_be_cleared():
    async with running_engine() as bus:
        await bus.trigger("engine::log::info", {"message": "x"})
        assert (await bus.trigger("engine::logs::clear"))["success"] is True
        assert await listed(bus) == []


# --- engine::log::* ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "level, number", [("trace", 1), ("debug", 5), ("info", 9), ("warn", 13), ("error", 17)], ids=lambda each: str(each)
)
@pytest.mark.parametrize("wire", [False, True])
async def test_a_line_is_logged_by_function_with_level_data_and_service(level, number, wire):
    async with running_engine(wire=wire, native=False) as bus:
        line = {"message": "hi", "data": {"a": 1}, "service_name": "shop", "trace_id": "t", "span_id": "s"}
        assert await bus.trigger(f"engine::log::{level}", line) is None
        (row,) = (await bus.trigger("engine::logs::list"))["logs"]
    assert (row["severity_number"], row["severity_text"]) == (number, level.upper())
    assert (row["body"], row["attributes"], row["service_name"]) == ("hi", {"a": 1}, "shop")
    assert (row["trace_id"], row["span_id"]) == ("t", "s")


async def test_a_line_without_a_trace_has_that_of_the_call():
    async with running_engine() as bus:
        token = current_invocation.set(Invocation(function_id="x", traceparent=f"00-{TRACE}-{SPAN}-01"))
        await bus.trigger("engine::log::warn", {"message": "hi", "data": [1, 2]})
        current_invocation.reset(token)
        (row,) = (await bus.trigger("engine::logs::list"))["logs"]
    assert (row["trace_id"], row["span_id"], row["service_name"]) == (TRACE, SPAN, "test")
    assert row["attributes"] == {"data": [1, 2]}


# --- the trigger type `log` --------------------------------------------------------------------------------


class Reader(Worker):
    """Notes what is logged, and logs itself."""

    name = "reader"

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    @function("reader::warned", triggers=[trigger("log", {"level": "warn"})])
    async def warned(self, payload: LogRecord) -> None:
        """Note a warning."""
        self.seen.append(payload.body)

    @function("reader::all", triggers=[trigger("log")])
    async def all(self, payload: LogRecord) -> None:
        """Log about every line, and fail: none of that may come back here."""
        self.seen.append(f"all {payload.body}")
        await self.bus.trigger("engine::log::info", {"message": "about a line"})
        raise ValueError("no")


@pytest.mark.parametrize("wire", [False, True])
async def test_a_function_runs_for_every_record_of_its_level_but_its_own(wire):
    reader = Reader()
    async with running_engine(reader, wire=wire) as bus:
        for level in ("info", "warn"):
            await bus.trigger(f"engine::log::{level}", {"message": level})
        await settle(100)
        assert sorted(reader.seen) == ["all info", "all warn", "warn"]
        assert (await listed(bus)).count("about a line") == 2


async def test_a_level_nobody_knows_is_refused():
    async with running_engine(Reader()) as bus:
        request = {"trigger_type": "log", "function_id": "reader::all", "config": {"level": "loud"}}
        with pytest.raises(LinklyError, match="loud"):
            await bus.trigger("engine::register_trigger", request)


async def test_a_reader_that_hangs_gets_no_more_than_a_bounded_number_of_lines():
    async with Engine() as engine:
        bus = engine.bus("test")
        called = []

        async def hang(payload: dict) -> None:
            called.append(payload)
            await asyncio.Event().wait()

        bus.register_function(Function("test::hang", hang))
        await bus.trigger("engine::register_trigger", {"trigger_type": "log", "function_id": "test::hang"})
        for _ in range(1000):
            engine.telemetry.add(record())
        await settle()
        assert (len(called), engine.telemetry.firings_dropped) == (256, 744)
        assert len(engine.telemetry.logs) == 1000


# --- what this process logs itself -------------------------------------------------------------------------


async def test_lines_of_any_thread_are_kept_from_before_the_engine_was_there():
    capture = Capture()
    log = logging.getLogger("linkly.engine")
    log.addHandler(capture)
    try:
        log.error("before", extra={"data": {"port": 1}})
        async with Engine() as engine:
            capture.bind(engine.telemetry)
            await asyncio.to_thread(log.warning, "from a %s", "thread")
            try:
                raise ValueError("a reason")
            except ValueError:
                log.exception("after")
            await settle()
            rows = (await engine.bus("test").trigger("engine::logs::list"))["logs"]
        capture.unbind()
    finally:
        log.removeHandler(capture)
    assert [(row["severity_text"], row["body"], row["service_name"]) for row in rows] == [
        ("ERROR", "after", "linkly"),
        ("WARN", "from a thread", "linkly"),
        ("ERROR", "before", "linkly"),
    ]
    assert rows[2]["attributes"] == {"port": 1, "logger": "linkly.engine"}
    assert "ValueError: a reason" in rows[0]["attributes"]["exception.stacktrace"]


async def test_a_line_of_a_worker_is_kept_once():
    capture = Capture()
    shown = logging.getLogger("linkly.worker")
    shown.addHandler(capture)
    shown.setLevel(logging.INFO)
    try:
        async with Engine() as engine:
            capture.bind(engine.telemetry)
            async with wired(engine, name="shop") as bus:
                await bus.trigger("engine::log::info", {"message": "one"})
            logging.getLogger("linkly.worker.child").info("a line of its output", extra={"stream": "stdout"})
            rows = (await engine.bus("test").trigger("engine::logs::list"))["logs"]
        capture.unbind()
    finally:
        shown.removeHandler(capture)
        shown.setLevel(logging.NOTSET)
    assert [(row["body"], row["service_name"]) for row in rows] == [
        ("a line of its output", "child"),
        ("one", "shop"),
    ]
