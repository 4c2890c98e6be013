"""What the engine writes for people and for programs, line by line."""

import json
import logging
import re
import sys
import time

import pytest

from linkly_engine import __version__
from linkly_engine.cli.output import JsonFormatter, TextFormatter, wants_colour
from linkly_engine.cli.welcome import Shown, WorkerShown, as_text
from linkly_engine.telemetry.lines import worker_of

AT = 1_760_000_000.123
TRACE = "0af7651916cd43dd8448eb211c80319c"


def record(message, *arguments, name="linkly.engine", level=logging.INFO, **extra):
    made = logging.LogRecord(name, level, "", 0, message, arguments, extra.pop("exc_info", None))
    made.created = AT
    made.__dict__.update(extra)
    return made


def text(*arguments, colour=False, **extra):
    return TextFormatter(colour=colour).format(record(*arguments, **extra))


def as_json(*arguments, **extra):
    return json.loads(JsonFormatter().format(record(*arguments, **extra)))


# --- text --------------------------------------------------------------------------------------------------


def test_a_line_has_time_level_worker_message_data_and_trace():
    line = text("link resolved", name="linkly.worker.link", data={"code": "iii", "found": True}, trace_id=TRACE)
    clock = time.strftime("%H:%M:%S", time.localtime(AT))
    assert line == f"{clock}.123 INFO  link        link resolved  code=iii found=true  trace=0af76519"


@pytest.mark.parametrize(
    "level, shown", [(5, "TRACE"), (10, "DEBUG"), (20, "INFO "), (30, "WARN "), (40, "ERROR"), (50, "FATAL")]
)
def test_levels_have_one_width(level, shown):
    assert text("x", level=level).split(" ", 1)[1].startswith(f"{shown} engine      x")


@pytest.mark.parametrize(
    "logger, worker",
    [
        ("linkly.engine", "engine"),
        ("linkly.process", "engine"),
        ("linkly.state", "state"),
        ("linkly.worker.my.link", "my.link"),
        ("shop.orders", "shop"),
    ],
)
def test_the_logger_says_who_speaks_unless_the_record_does(logger, worker):
    assert worker_of(logger) == worker
    assert " named " in text("x", name=logger, worker="named")


@pytest.mark.parametrize(
    "value, shown",
    [
        ("plain/text-1.5", "k=plain/text-1.5"),
        ("https://iii.dev?a", "k=https://iii.dev?a"),
        ("two words", 'k="two words"'),
        ("", 'k=""'),
        ('a"b', 'k="a\\"b"'),
        ("a=b", 'k="a=b"'),
        (None, "k=null"),
        (1.5, "k=1.5"),
        ({"a": [1, "x"]}, 'k={"a":[1,"x"]}'),
        (object, "k="),
        ("z" * 3000, "k=zzz"),
    ],
)
def test_data_is_written_as_keys_and_values(value, shown):
    line = text("m", data={"k": value})
    assert f"  {shown}" in line
    assert len(line) < 2200


def test_data_that_is_no_object_has_the_key_data():
    assert text("m", data=[1, 2]).endswith("m  data=[1,2]")


def test_nothing_a_worker_writes_can_look_like_another_line_or_move_the_cursor():
    forged = "x\r\n12:00:00.000 ERROR engine  all is lost\x1b[2J\x1b[31m\x07\u202e\u2028y"
    line = text("%s", forged, worker=forged, data={forged: forged}, trace_id=forged)
    assert "\x1b" not in line
    assert "\x07" not in line
    assert "\u202e" not in line
    first, *rest = line.split("\n")
    assert first.count("\r") == 0
    assert rest == [
        "             | 12:00:00.000 ERROR engine  all is lost\\x07\\u202e\\u2028y" + rest[0].split("y", 1)[1]
    ]


def test_a_traceback_stays_below_its_line():
    try:
        raise ValueError("a reason")
    except ValueError:
        line = text("it failed", exc_info=sys.exc_info())
    first, *rest = line.split("\n")
    assert first.endswith("it failed")
    assert rest[-1] == "             | ValueError: a reason"
    assert all(each.startswith("             | ") for each in rest)


def test_arguments_that_do_not_fit_a_message_cost_no_line():
    assert "%d things" in text("%d things", "many")


def test_colours_are_in_the_line_only_when_they_are_wanted():
    line = text("m", colour=True, data={"k": 1}, level=logging.ERROR)
    assert "\x1b[31mERROR\x1b[0m" in line
    assert re.sub(r"\x1b\[[0-9;]*m", "", line) == text("m", data={"k": 1}, level=logging.ERROR)


@pytest.mark.parametrize(
    "environment, terminal, wanted",
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "0"}, False, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, True, False),
    ],
)
def test_when_colours_are_wanted(environment, terminal, wanted, monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert wants_colour(terminal) is wanted


# --- JSON --------------------------------------------------------------------------------------------------


def test_a_json_line_has_the_same_in_fields():
    assert as_json("link %s", "resolved", worker="link", data={"code": "iii"}, trace_id=TRACE, span_id="s") == {
        "timestamp": "2025-10-09T08:53:20.123Z",
        "level": "INFO",
        "worker": "link",
        "message": "link resolved",
        "data": {"code": "iii"},
        "trace_id": TRACE,
        "span_id": "s",
    }


def test_a_json_line_is_one_line_whatever_is_in_it():
    for message, data in (
        ("a\nb\x1b[31m\u2028", {"x": "\n"}),
        ("half \ud800", {"x": "\udfff"}),
        ("x", {"x": object()}),
    ):
        line = JsonFormatter().format(record("%s", message, data=data, stream="stderr"))
        assert len(line.splitlines()) == 1 or "\u2028" in line
        assert "\n" not in line
        assert "\x1b" not in line
        assert json.loads(line)["stream"] == "stderr"


# --- the welcome -------------------------------------------------------------------------------------------

SHOWN = Shown(
    workers=[
        WorkerShown(name="state", status="running", functions=["state::get", "state::set"], trigger_types=["state"]),
        WorkerShown(name="quiet", status="running"),
        WorkerShown(name="link", status="installing", path="/p/link"),
        WorkerShown(name="broken", status="failed", reason="port 1 is\x1b[2J in use"),
    ],
    addresses=[("workers connect to", "ws://127.0.0.1:1"), ("http at", "http://127.0.0.1:2")],
    suggestion="linkly trigger state::get",
)


def test_the_welcome_describes_every_worker():
    assert as_text(SHOWN, width=100, colour=False).splitlines() == [
        "",
        f"linkly {__version__} is up",
        "",
        "  state        state::get, state::set, trigger type state",
        "  quiet        running, serves no function",
        "  link         (installing, in /p/link)",
        "  broken       (failed: port 1 is in use)",
        "",
        "  workers connect to   ws://127.0.0.1:1",
        "  http at              http://127.0.0.1:2",
        "",
        "  try: linkly trigger state::get",
        "  stop: Ctrl-C",
    ]


def test_the_welcome_wraps_between_ids():
    plain = as_text(SHOWN, width=40, colour=False)
    assert "  state        state::get, state::set,\n               trigger type state\n" in plain
    assert re.sub(r"\x1b\[[0-9;]*m", "", as_text(SHOWN, width=40, colour=True)) == plain


def test_a_project_without_workers_is_told_how_to_get_one():
    empty = Shown(workers=[], addresses=[], suggestion="x")
    assert "linkly worker add" in as_text(empty, width=80, colour=False)
