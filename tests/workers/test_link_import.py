"""An import goes on after what cannot be imported, and names it."""

import asyncio

import pytest

from linkly import LinklyError

pytestmark = pytest.mark.transports("in process")  # the text of a file is one payload like any other

BEFORE, AFTER = b"https://before.example,before,,\n", b"https://after.example,after,,\n"


async def imported(bus, data):
    channel = await bus.create_channel()

    async def send():
        writer = await bus.open_writer(channel.writer)
        for start in range(0, len(data), 40_000):
            await writer.write(data[start : start + 40_000])
        await writer.close()

    answer, _ = await asyncio.gather(bus.trigger("link::import", {"reader": channel.reader}), send())
    return answer


@pytest.mark.parametrize(
    "line, reason",
    [
        (b"https://a.example,a,9999-12-31T23:59:59-01:00,", "expires_at"),
        (b"https://a.example,a,0001-01-01T00:00:00+01:00,", "expires_at"),
        (b"https://a.example,a,," + b"9" * 5000, "max_clicks"),
        (b"https://a.example,a,,-1", "max_clicks"),
        (b"https://a.example,a,,0", "max_clicks"),
        (b"https://a.example\rx,a,,", "carriage return"),
        (b"https://a.example,a,,\rhttps://b.example,b,,", "carriage return"),
        (b'"https://a.example,a,,', "quoted cell"),
        (b'"https://a.example"x,a,,', "no CSV"),
        (b"https://a.example/\xff,a,,", "UTF-8"),
        (b"https://a.example/" + b"x" * 140_000 + b",a,,", "longer than"),
        (b"https://a.example/1,2,3,4,a", "cells"),
        (b"https://a.example/\0,a,,", "control"),
    ],
    ids=lambda value: repr(value)[:50],
)
async def test_a_line_that_cannot_be_imported_keeps_no_other_out(shortener, line, reason):
    async with shortener() as (_, bus):
        answer = await imported(bus, b"url,code,expires_at,max_clicks\n" + BEFORE + line + b"\n" + AFTER)
        assert (answer["imported"], answer["skipped"]) == (2, 1)
        assert answer["problems"][0]["index"] == 1
        assert reason in answer["problems"][0]["error"]
        listed = (await bus.trigger("link::list", {}))["links"]
        assert {link["code"] for link in listed} == {"before", "after"}


async def test_a_quoted_cell_may_have_commas_and_quotes(shortener):
    async with shortener() as (_, bus):
        answer = await imported(bus, b'\xef\xbb\xbfurl,code\r\n"https://a.example/1,2?q=""x""",a,,\r\n')
        assert answer == {"imported": 1, "skipped": 0, "problems": []}
        assert await bus.trigger("link::resolve", {"code": "a"}) == {"url": 'https://a.example/1,2?q="x"'}


async def test_a_time_that_does_not_exist_in_utc_skips_its_link_only(shortener):
    late = {"url": "https://late.example", "code": "late", "expires_at": "9999-12-31T23:59:59-01:00"}
    async with shortener() as (_, bus):
        answer = await bus.trigger("link::import", {"links": [late, {"url": "https://a.example", "code": "a"}]})
        assert (answer["imported"], answer["skipped"]) == (1, 1)
        assert "expires_at" in answer["problems"][0]["error"]


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-01:00"])
async def test_a_time_that_does_not_exist_in_utc_is_refused_by_its_name(shortener, time):
    async with shortener() as (client, bus):
        link = {"url": "https://a.example", "code": "a"}
        for key in ({}, {"Idempotency-Key": "k"}):
            refused = await client.post("/links", json={**link, "expires_at": time}, headers=key)
            assert refused.status_code == 400
            assert "expires_at" in refused.json()["error"]
        assert (await client.post("/links", json=link)).status_code == 201
        refused = await client.put("/links/a", json={**link, "expires_at": time})
        assert refused.status_code == 400
        assert "expires_at" in refused.json()["error"]
        for function, request in (
            ("link::create", {**link, "code": "b", "expires_at": time}),
            ("link::update", {"code": "a", "expires_at": time}),
            ("link::record_click", {"code": "a", "clicked_at": time}),
        ):
            with pytest.raises(LinklyError, match="in UTC") as refusal:
                await bus.trigger(function, request)
            assert refusal.value.code == "INVALID_ARGUMENTS"


async def test_columns_that_no_link_has_are_left_out_of_an_import(shortener):
    table = b'keyword,url,Title,timestamp,ip,clicks\nPy,https://a.example,"A, b",2020-01-01 00:00:00,10.0.0.1,7\n'
    async with shortener() as (_, bus):
        answer = await imported(bus, table)
        assert answer == {
            "imported": 1,
            "skipped": 0,
            "problems": [],
            "ignored_columns": ["Title", "timestamp", "ip", "clicks"],
        }
        assert await bus.trigger("link::resolve", {"code": "Py"}) == {"url": "https://a.example"}


@pytest.mark.parametrize("first", ["code,max_clicks", "url,code,keyword", "url,url", "link,keyword"])
async def test_a_table_without_addresses_or_with_two_of_one_thing_is_refused_whole(shortener, first):
    async with shortener() as (_, bus):
        with pytest.raises(LinklyError, match="first line names the columns"):
            await imported(bus, first.encode() + b"\nhttps://a.example,b\n")
