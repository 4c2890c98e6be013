"""OTLP frames as each SDK writes them, with every deviation known, and frames that are none."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkly_engine.telemetry.otlp import LOGS, METRICS, SPANS, OtlpError, kind_of, read

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def frame(prefix, export):
    return prefix + json.dumps(export).encode()


def text(value):
    return {"stringValue": value}


def pairs(**values):
    return [{"key": key, "value": value} for key, value in values.items()]


def logs(record, service="iii-node", **resource):
    attributes = [{"key": "service.name", "value": text(service)}]
    export = {"resource": {"attributes": attributes, **resource}, "scopeLogs": [{"logRecords": [record]}]}
    return frame(b"LOGS", {"resourceLogs": [export]})


NODE_LOG = {
    "timeUnixNano": "1760000000000000000",
    "observedTimeUnixNano": "1760000000000000500",
    "severityNumber": 9,
    "body": text("link resolved"),
    "attributes": [
        {
            "key": "log.data",
            "value": {"kvlistValue": {"values": pairs(code=text("iii"), found={"boolValue": True}, none={})}},
        },
        {"key": "tries", "value": {"intValue": 3}},
    ],
    "droppedAttributesCount": 0,
    "traceId": TRACE,
    "spanId": SPAN,
}

PYTHON_LOG = {
    "timeUnixNano": "1760000000000000000",
    "observedTimeUnixNano": "1760000000000000500",
    "severityNumber": 13,
    "severityText": "WARNING",
    "body": text("slow"),
    "attributes": [
        {"key": "service.name", "value": text("")},
        {"key": "log.data", "value": {"kvlistValue": {"values": pairs(ms={"intValue": 12}, who=text("None"))}}},
    ],
}


def test_a_line_of_node_s_logger_gets_the_level_it_does_not_send():
    export = read(logs(NODE_LOG, droppedAttributesCount=0))
    (log,) = export.logs
    assert (export.kind, export.count) == (LOGS, 1)
    assert (log.severity_number, log.severity_text, log.body) == (9, "INFO", "link resolved")
    assert log.attributes == {"log.data": {"code": "iii", "found": True, "none": None}, "tries": 3}
    assert (log.timestamp_unix_nano, log.observed_timestamp_unix_nano) == (1760000000000000000, 1760000000000000500)
    assert (log.trace_id, log.span_id, log.resource) == (TRACE, SPAN, {"service.name": "iii-node"})


def test_a_line_of_python_s_logger_outside_of_any_call_has_no_trace():
    (log,) = read(logs(PYTHON_LOG, "iii-python-sdk")).logs
    assert (log.severity_number, log.severity_text, log.trace_id, log.span_id) == (13, "WARN", None, None)
    assert log.attributes["log.data"] == {"ms": 12, "who": "None"}


@pytest.mark.parametrize(
    "given, number, level",
    [
        ({"severityNumber": 17}, 17, "ERROR"),
        ({"severityNumber": "9"}, 9, "INFO"),
        ({"severityNumber": 4}, 4, "TRACE"),
        ({"severityNumber": 24}, 24, "FATAL"),
        ({"severityText": "warn"}, 13, "WARN"),
        ({"severityText": "CRITICAL"}, 21, "FATAL"),
        ({"severityNumber": 0, "severityText": "note"}, 0, "NOTE"),
        ({"severityNumber": 99}, 0, ""),
        ({}, 0, ""),
    ],
)
def test_number_and_text_of_a_level_are_derived_from_each_other(given, number, level):
    (log,) = read(logs({"body": text("x"), **given})).logs
    assert (log.severity_number, log.severity_text) == (number, level)


@pytest.mark.parametrize(
    "value, wanted",
    [
        ({"intValue": "5"}, 5),
        ({"intValue": 5}, 5),
        ({"doubleValue": 0.5}, 0.5),
        ({"doubleValue": "0.5"}, 0.5),
        ({"doubleValue": "NaN"}, "NaN"),
        ({"boolValue": False}, False),
        ({}, None),
        (None, None),
        ("plain", "plain"),
        ({"bytesValue": "00ff"}, "00ff"),
        ({"arrayValue": {"values": [{"intValue": 1}, {}, text("a")]}}, [1, None, "a"]),
        ({"arrayValue": {}}, []),
        ({"kvlistValue": {}}, {}),
        ({"kvlistValue": {"values": pairs(a={"kvlistValue": {"values": pairs(b={"intValue": 1})}})}}, {"a": {"b": 1}}),
    ],
)
def test_every_form_of_a_value_becomes_plain_data(value, wanted):
    (log,) = read(logs({"attributes": [{"key": "x", "value": value}]})).logs
    assert log.attributes == {"x": wanted}


@pytest.mark.parametrize("wrong", ["None", None, 0, "0", -5, "", [], {}, 2**70, True, "1e400"])
def test_a_time_that_is_none_is_unknown(wrong):
    (log,) = read(logs({"timeUnixNano": wrong}), now_ns=5).logs
    assert log.timestamp_unix_nano == 5


@pytest.mark.parametrize("wrong", ["", "0" * 32, "zz" * 16, "0x" + "1" * 30, "1_2" * 10 + "11", 5, None, TRACE + "00"])
def test_a_trace_id_is_known_by_its_form(wrong):
    (log,) = read(logs({"traceId": wrong, "spanId": SPAN.upper()})).logs
    assert (log.trace_id, log.span_id) == (None, SPAN)


def test_the_trace_is_also_taken_from_the_attributes_a_logger_puts_it_in():
    (log,) = read(logs({"attributes": pairs(trace_id=text(TRACE), span_id=text(SPAN))})).logs
    assert (log.trace_id, log.span_id) == (TRACE, SPAN)


def test_a_body_that_is_no_text_is_shown_as_json():
    value = {"kvlistValue": {"values": pairs(a={"intValue": 1})}}
    assert read(logs({"body": value})).logs[0].body == '{"a":1}'
    assert read(logs({})).logs[0].body == ""


def test_c88_gauges_are_read_when_python_sends_none_as_their_start():
    point = {"attributes": pairs(**{"worker.id": text("w1")}), "timeUnixNano": "1760000000000000000"}
    metrics = [
        {"name": "a", "gauge": {"dataPoints": [{**point, "startTimeUnixNano": "None", "asDouble": 1.5}]}},
        {"name": "b", "sum": {"dataPoints": [{**point, "asInt": "7"}], "isMonotonic": True}},
        {"name": "c", "histogram": {"dataPoints": [{"count": "3", "bucketCounts": ["1", "2"]}]}},
        {"name": "d", "gauge": {"dataPoints": [{**point, "asDouble": "NaN"}, "no point", None]}},
    ]
    export = read(frame(b"MTRC", {"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]}))
    assert (export.kind, export.count) == (METRICS, 4)
    assert [(each.name, each.value, each.attributes["worker.id"]) for each in export.points] == [
        ("a", 1.5, "w1"),
        ("b", 7, "w1"),
    ]


def test_spans_of_every_client_are_counted():
    spans = [
        {"name": "execute a::b", "kind": 0, "startTimeUnixNano": "1", "status": {"code": 0, "message": ""}},
        {"name": "execute a::c", "kind": 1, "endTimeUnixNano": 0, "droppedLinksCount": 0},
    ]
    export = read(frame(b"OTLP", {"resourceSpans": [{"scopeSpans": [{"spans": spans}, {}]}, {}]}))
    assert (export.kind, export.count) == (SPANS, 2)


def test_text_that_is_no_json_costs_no_frame():
    whole = logs({"body": text("x")})
    assert read(whole.replace(b'"x"', b'"a\\ud83d"')).logs[0].body == "a?"
    assert read(logs({"attributes": [{"key": "n", "value": {"doubleValue": float("nan")}}]})).logs[0].attributes == {
        "n": None
    }


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"LOG",
        b"LOGS",
        b"LOGS[]",
        b"LOGS{}",
        b"LOGSnull",
        b'LOGS{"resourceLogs":{}}',
        b"LOGS\xff\xfe{}",
        b"MTRC{",
        b"OTLP[1]",
        b'OTLP{"resourceSpans":7}',
        b"LOGS" + b"[" * 100_000,
        b'LOGS{"resourceLogs":' + b'[{"a":' * 50_000,
        b"XXXX{}",
        b'{"type":"ping"}',
    ],
)
def test_a_frame_that_is_none_is_refused_with_a_reason(bad):
    with pytest.raises(OtlpError):
        read(bad)


def test_a_frame_says_what_it_holds():
    assert [kind_of(prefix) for prefix in (b"LOGS", b"MTRC{}", b"OTLP", b"", b"\x00\x01")] == [
        *(LOGS, METRICS, SPANS),
        *("unknown", "unknown"),
    ]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("resourceLogs", "resource", "attributes", "scopeLogs", "scope", "name", "logRecords", "body"),
                    *("key", "value", "stringValue", "kvlistValue", "arrayValue", "values", "intValue", "gauge"),
                    *("resourceMetrics", "scopeMetrics", "metrics", "dataPoints", "asInt", "timeUnixNano", "spans"),
                    *("resourceSpans", "scopeSpans", "severityNumber", "severityText", "traceId"),
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=30,
)


@given(st.sampled_from([b"LOGS", b"MTRC", b"OTLP"]), anything)
def test_whatever_json_comes_it_is_read_or_refused(prefix, export):
    with contextlib.suppress(OtlpError):
        read(frame(prefix, export))


@given(st.binary(max_size=40))
def test_whatever_bytes_come_they_are_read_or_refused(data):
    for candidate in (data, b"LOGS" + data, b"OTLP" + data, b"MTRC" + data):
        with contextlib.suppress(OtlpError):
            read(candidate)
