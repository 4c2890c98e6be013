"""The link worker's functions over the bus."""

import asyncio

import pytest

from linkly import LinklyError
from linkly.errors import ConfigError, InvalidPayload
from linkly.schema import read_settings
from linkly_workers.link import LinkSettings, LinkWorker


async def test_codes_grow_when_the_short_ones_run_out(shortener):
    async with shortener({"code_length": 1}) as (_, bus):
        made = [await bus.trigger("link::create", {"url": "https://a.example"}) for _ in range(50)]
        codes = [each["code"] for each in made]
        assert len(set(codes)) == 50
        assert {len(code) for code in codes} == {1, 2}


async def test_generated_codes_of_concurrent_callers_are_distinct(shortener):
    async with shortener({"code_length": 2}) as (_, bus):
        made = await asyncio.gather(*(bus.trigger("link::create", {"url": "https://a.example"}) for _ in range(200)))
        assert len({each["code"] for each in made}) == 200


async def test_a_click_is_recorded_once_for_each_id(shortener):
    async with shortener() as (_, bus):
        await bus.trigger("link::create", {"url": "https://a.example", "code": "a"})
        for _ in range(3):
            assert await bus.trigger("link::record_click", {"code": "a", "click_id": "x"}) == {"recorded": True}
        assert await bus.trigger("link::record_click", {"code": "none"}) == {"recorded": False, "reason": "not_found"}
        assert await bus.trigger("link::verify") == {"ok": True, "links": 1, "counted": 1, "rows": 1, "mismatches": []}


@pytest.mark.parametrize(
    "function_id", ["http::redirect", "link::http_get", "link::http_delete", "link::http_stats", "link::http_qr"]
)
async def test_who_calls_a_route_without_a_code_is_told_what_is_missing(shortener, function_id):
    async with shortener() as (_, bus):
        with pytest.raises(InvalidPayload, match=r"`path_params.code` is missing"):
            await bus.trigger(function_id, {"headers": {"host": "a.example"}})


async def test_verify_names_the_counter_that_is_wrong(shortener):
    async with shortener() as (_, bus):
        await bus.trigger("link::create", {"url": "https://a.example", "code": "a"})
        await bus.trigger("database::execute", {"sql": "UPDATE links SET clicks = 2"})
        proof = await bus.trigger("link::verify")
        assert (proof["ok"], proof["mismatches"]) == (False, [{"code": "a", "counter": 2, "rows": 0}])


async def test_an_idempotency_key_works_for_functions_too(shortener):
    async with shortener() as (_, bus):
        request = {"url": "https://a.example", "idempotency_key": "k"}
        first = await bus.trigger("link::create", request)
        assert await bus.trigger("link::create", request) == first
        with pytest.raises(LinklyError) as refusal:
            await bus.trigger("link::create", {"url": "https://b.example", "idempotency_key": "k"})
        assert refusal.value.code == "IDEMPOTENCY_KEY_REUSED"


async def test_a_list_is_imported_and_what_cannot_be_is_named(shortener):
    async with shortener() as (client, bus):
        await bus.trigger("link::create", {"url": "https://a.example", "code": "taken"})
        answer = await bus.trigger(
            "link::import",
            {
                "links": [
                    {"url": "https://one.example", "code": "one", "max_clicks": 1},
                    {"url": "two.example"},
                    {"url": "javascript:alert(1)"},
                    {"url": "https://x.example", "code": "taken"},
                    {"code": "nowhere"},
                    5,
                ]
            },
        )
        assert (answer["imported"], answer["skipped"]) == (2, 4)
        assert [each["index"] for each in answer["problems"]] == [2, 3, 4, 5]
        assert "scheme" in answer["problems"][0]["error"]
        assert "taken" in answer["problems"][1]["error"]
        assert [(await client.get("/s/one")).status_code for _ in range(2)] == [302, 410]
        assert await bus.trigger("link::resolve", {"code": "taken"}) == {"url": "https://a.example"}


async def test_a_csv_file_is_imported_from_a_channel(shortener):
    rows = [f"https://site{number}.example/ü,c{number}" for number in range(1200)]
    data = ("\ufeffurl,code\r\n" + "\r\n".join(rows) + "\r\n\r\nftp://x,bad\r\n").encode()
    async with shortener() as (_, bus):
        channel = await bus.create_channel()

        async def send():
            writer = await bus.open_writer(channel.writer)
            for start in range(0, len(data), 1000):  # the cuts go through lines and letters
                await writer.write(data[start : start + 1000])
            await writer.close()

        answer, _ = await asyncio.gather(bus.trigger("link::import", {"reader": channel.reader}), send())
        assert (answer["imported"], answer["skipped"]) == (1200, 1)
        assert answer["problems"][0]["index"] == 1200
        found = await bus.trigger("link::resolve", {"code": "c7"})
        assert found == {"url": "https://site7.example/%C3%BC"}
        assert (await bus.trigger("link::verify"))["links"] == 1200


@pytest.mark.parametrize(
    "data, part",
    [
        (b"address\r\nx\r\n", "`url`"),
        (b"url,url\nhttps://a.example,https://b.example\n", "each once"),
        (b"url,\xff\nhttps://a.example,\n", "UTF-8"),
        (b"url" + b"x" * 70_000, "longer than"),
        (b"url,code\rhttps://a.example,a\r", "carriage return"),
        (b'"url,code\nhttps://a.example,a\n', "no CSV"),
    ],
)
async def test_a_file_that_is_no_csv_of_links_is_refused(shortener, data, part):
    async with shortener() as (_, bus):
        channel = await bus.create_channel()

        async def send():
            writer = await bus.open_writer(channel.writer)
            await writer.write(data)
            await writer.close()

        sending = asyncio.create_task(send())
        with pytest.raises(LinklyError, match=part):
            await bus.trigger("link::import", {"reader": channel.reader})
        await asyncio.gather(sending, return_exceptions=True)


@pytest.mark.parametrize("base_url", ["s.example", "ftp://s.example", "https://", "http://[x", "https:s.example"])
def test_a_base_url_that_is_none_is_a_config_error(base_url):
    with pytest.raises(ConfigError, match="base_url"):
        LinkWorker(read_settings(LinkSettings, {"base_url": base_url}, "$"))


async def test_of_two_faults_of_an_update_the_address_is_told(shortener):
    async with shortener() as (_, bus):
        await bus.trigger("link::create", {"url": "https://a.example", "code": "a"})
        with pytest.raises(LinklyError, match="user name"):
            await bus.trigger(
                "link::update", {"code": "a", "url": "https://u@b.example", "expires_at": "0001-01-01T00:00:00+05:00"}
            )
