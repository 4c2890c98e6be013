"""The tutorial's first chapter, by each published client: what its commands print and its requests answer.

Every test makes links of its own, so that the order of the tests does not matter.
"""

import asyncio
import json
import re

import pytest

VERSIONS = ["0.16.1", "0.19.7", "0.22.1", "0.25.0", "node"]
FUNCTIONS = ["link::create", "link::resolve", "http::create_link", "http::redirect"]

SERVICES = ("iii-python-sdk", "iii-node")

pytestmark = pytest.mark.compat


@pytest.fixture(scope="module")
async def engines(new_linkly, command):
    """One engine for each client: all of them serve the same function ids."""

    async def start(version):
        linkly = await new_linkly()
        linkly.run_client(command(version, "link_foundations"))
        await linkly.until_there(*FUNCTIONS)
        return linkly

    return dict(zip(VERSIONS, await asyncio.gather(*map(start, VERSIONS)), strict=True))


@pytest.fixture(scope="module")
async def restarted(engines):
    """All engines after a kill -9 and a new start; before it, each answered for the code `before`."""

    async def restart(linkly):
        await linkly.trigger("link::create", "url=https://iii.dev", "code=before")
        await linkly.kill()
        await linkly.start()
        await linkly.until_there(*FUNCTIONS)

    await asyncio.gather(*map(restart, engines.values()))
    return engines


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_command_line_creates_and_resolves_a_link(engines, version):
    trigger = engines[version].trigger
    created = await trigger("link::create", "url=https://iii.dev", "code=iii")
    assert created == '{\n  "code": "iii",\n  "url": "https://iii.dev"\n}\n'
    resolved, unknown = await asyncio.gather(
        trigger("link::resolve", "code=iii"), trigger("link::resolve", "code=nobody")
    )
    assert resolved == '{\n  "url": "https://iii.dev"\n}\n'
    assert unknown == '{\n  "url": null\n}\n'


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_link_without_code_or_scheme_gets_both(engines, version):
    link = json.loads(await engines[version].trigger("link::create", "url=iii.dev/docs"))
    assert re.fullmatch("[a-z0-9]{6}", link["code"])
    assert link["url"] == "https://iii.dev/docs"


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_link_is_made_and_followed_over_http(engines, version):
    http = engines[version].http
    made = await http.post("/links", json={"url": "https://example.com", "code": "demo"})
    assert (made.status_code, made.reason_phrase) == (201, "Created")
    assert made.headers["content-type"] == "application/json"
    assert made.json() == {"code": "demo", "url": "https://example.com"}
    assert '"code":"demo"' in made.text
    address = "http://iii.dev/docs/understanding-iii"
    await http.post("/links", json={"url": address, "code": "learn-iii"})
    followed = await http.get("/s/learn-iii")
    assert (followed.status_code, followed.reason_phrase) == (302, "Found")
    assert followed.headers["location"] == address


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_is_missing_is_said(engines, version):
    http = engines[version].http
    unknown = await http.get("/s/missing")
    assert (unknown.status_code, unknown.json()) == (404, {"error": "link not found"})
    for body in (b'{"code":"x"}', b"", b"not JSON"):
        headers = {"content-type": "application/json"}
        refused = await http.post("/links", content=body, headers=headers)
        assert (refused.status_code, refused.json()) == (400, {"error": 'missing "url"'}), body


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_document_s_curl_command_prints_the_document_s_answer(engines, version):
    linkly = engines[version]
    curl = await asyncio.create_subprocess_exec(
        *("curl", "-si", "-X", "POST", f"http://127.0.0.1:{linkly.http_port}/links"),
        *("-H", "Content-Type: application/json", "-d", '{"url":"https://example.com","code":"curled"}'),
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        output, _ = await curl.communicate()
    head, _, body = output.decode().partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 201 Created\r\n")
    assert "content-type: application/json" in head.lower().split("\r\n")
    assert body == '{"code":"curled","url":"https://example.com"}'


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_the_logger_says_is_listed_with_all_that_belongs_to_it(engines, version):
    linkly = engines[version]
    await linkly.until_logged("link worker ready")
    await linkly.trigger("link::create", "url=https://iii.dev", "code=logged")
    await linkly.http.get("/s/logged")
    await linkly.http.get("/s/unlogged")
    await linkly.until_logged("link resolved", code="unlogged", found=False)
    await linkly.until_logged("link resolved", code="logged", found=True)
    records = json.loads(await linkly.trigger("engine::logs::list", "limit=100"))["logs"]
    record = next(row for row in records if row["attributes"].get("log.data") == {"code": "logged", "found": True})
    assert (record["body"], record["severity_text"], record["severity_number"]) == ("link resolved", "INFO", 9)
    assert record["service_name"] == record["attributes"]["service.name"] == SERVICES[version == "node"]
    assert re.fullmatch("[0-9a-f]{32}", record["trace_id"])
    assert re.fullmatch("[0-9a-f]{16}", record["span_id"])
    assert (record["attributes"]["trace_id"], record["attributes"]["span_id"]) == (
        record["trace_id"],
        record["span_id"],
    )
    of_the_trace = await linkly.trigger("engine::logs::list", f"trace_id={record['trace_id']}")
    assert record in json.loads(of_the_trace)["logs"]


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_the_logger_says_shows_in_the_engine_s_output(engines, version):
    linkly = engines[version]
    await linkly.trigger("link::create", "url=https://iii.dev", "code=shown")
    line = await linkly.engine.line(lambda line: "link created" in line and "shown" in line)
    assert " INFO " in line
    assert "https://iii.dev" in line


@pytest.mark.parametrize("version", VERSIONS)
async def test_links_in_memory_are_gone_after_a_kill(restarted, version):
    linkly = restarted[version]
    assert (await linkly.http.get("/s/before")).status_code == 404
    assert json.loads(await linkly.trigger("link::resolve", "code=before")) == {"url": None}
    await linkly.trigger("link::create", "url=https://iii.dev", "code=after")
    assert (await linkly.http.get("/s/after")).status_code == 302
