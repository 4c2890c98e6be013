"""The tutorial's chapter on click tracking, word by word, over every place where links can be kept.

A redirect adds one to its link's counter in one statement, before it is answered; what is read here is the row itself.
"""

import asyncio
import collections

import httpx
import pytest

from linkly import Client
from support.engine_process import EngineProcess
from support.link_databases import KINDS, plain_url_of

N = 5
AT_ONCE = 10

PLACES = ("memory", *KINDS)


def config(place, request):
    """Return the entries of config.yaml that say where links are kept, by nothing but themselves."""
    if place == "memory":
        return "  - name: database\n  - name: link\n    config: {store: memory}\n"
    url = plain_url_of(place, request)
    return f'  - name: database\n    config: {{databases: {{primary: {{url: "{url}"}}}}}}\n  - name: link\n'


@pytest.fixture(params=PLACES)
def place(request):
    return request.param


@pytest.fixture
def linkly(place, request, tmp_path, reserve_port):
    ports = [reserve_port(), reserve_port()]
    (tmp_path / "config.yaml").write_text(
        f"workers:\n  - name: iii-worker-manager\n    config: {{port: {ports[0]}}}\n  - name: state\n"
        f"  - name: http\n    config: {{port: {ports[1]}}}\n{config(place, request)}"
    )
    engine = EngineProcess(tmp_path)
    yield engine
    engine.kill()


@pytest.fixture
async def browser(linkly):
    await asyncio.to_thread(linkly.start)
    async with httpx.AsyncClient(base_url=linkly.http, timeout=30) as browser:
        yield browser


async def shortened(browser, url="https://dalabs.academy"):
    answer = await browser.post("/links", json={"url": url})
    assert answer.status_code == 201
    return answer.json()["code"]


@pytest.fixture
def clicks(linkly, place, browser):
    """Return what reads a link's counter from where it is kept; `None` if there is no link."""

    async def read(code):
        if place == "memory":
            answer = await browser.get(f"/links/{code}")
            return answer.json()["clicks"] if answer.status_code == 200 else None
        async with Client(linkly.url, name="reader") as client:
            select = {"sql": "SELECT clicks FROM links WHERE code = ?", "params": [code]}
            rows = (await client.trigger("database::query", select))["rows"]
            return rows[0]["clicks"] if rows else None

    return read


async def test_n_redirects_make_n_clicks(browser, clicks):
    code = await shortened(browser)
    for _ in range(N):
        answer = await browser.get(f"/s/{code}")
        assert (answer.status_code, answer.headers["location"]) == (302, "https://dalabs.academy")
    assert await clicks(code) == N


async def test_a_new_link_starts_at_zero(browser, clicks):
    assert await clicks(await shortened(browser)) == 0


async def test_an_unknown_code_counts_nothing(browser, clicks):
    known = await shortened(browser)
    assert (await browser.get("/s/unknown")).status_code == 404
    assert await clicks("unknown") is None
    assert await clicks(known) == 0


async def test_the_click_is_counted_before_its_redirect_is_answered(browser, clicks):
    code = await shortened(browser)
    for number in range(1, N + 1):
        assert (await browser.get(f"/s/{code}")).status_code == 302
        assert await clicks(code) == number


async def test_ten_redirects_at_once_make_ten_clicks(browser, clicks):
    code = await shortened(browser)
    answers = await asyncio.gather(*(browser.get(f"/s/{code}") for _ in range(AT_ONCE)))
    assert [answer.status_code for answer in answers] == [302] * AT_ONCE
    assert await clicks(code) == AT_ONCE


async def test_one_of_ten_who_want_a_code_at_once_gets_it(browser, clicks):
    wanted = [{"url": f"https://dalabs.academy/{number}", "code": "wanted"} for number in range(AT_ONCE)]
    answers = await asyncio.gather(*(browser.post("/links", json=each) for each in wanted))
    assert collections.Counter(answer.status_code for answer in answers) == {201: 1, 409: AT_ONCE - 1}
    won = next(answer.json()["url"] for answer in answers if answer.status_code == 201)
    assert (await browser.get("/s/wanted")).headers["location"] == won
    assert await clicks("wanted") == 1


async def test_codes_that_are_made_at_once_are_all_different(browser):
    codes = await asyncio.gather(*(shortened(browser) for _ in range(AT_ONCE)))
    assert len(set(codes)) == AT_ONCE
