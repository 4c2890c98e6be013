"""What a function answers, or that it fails, as a response on a real socket."""

import contextlib
import re

import httpx
import pytest

from linkly import Function, HttpRequest, LinklyError, Worker, function, http
from linkly.schema import read_settings
from linkly.testing import settle
from linkly_workers.http import HttpSettings, HttpWorker


class Pages(Worker):
    """Functions to reach."""

    name = "pages"
    answer: object = None

    @function("pages::raw", triggers=[http("GET", "/raw")])
    async def raw(self, request: HttpRequest) -> object:
        """Answer what the test wants."""
        return self.answer

    @function("pages::broken", triggers=[http("GET", "/broken")])
    async def broken(self, request: HttpRequest) -> None:
        """Fail."""
        raise ValueError("it broke")


@pytest.fixture
def gateway(run):
    """Run a gateway and pages; yields a client, the pages and the bus."""

    @contextlib.asynccontextmanager
    async def start(**settings):
        worker, pages = HttpWorker(read_settings(HttpSettings, {"port": 0, **settings}, "$")), Pages()
        async with run(worker, pages) as bus, httpx.AsyncClient(verify=False) as client:
            await settle()
            client.base_url = worker.url
            yield client, pages, bus

    return start


@pytest.mark.parametrize(
    "given, status, content_type, body",
    [
        ({"status_code": 201, "body": {"a": 1}}, 201, "application/json", b'{"a":1}'),
        ({"status_code": 200}, 200, "application/json", b"{}"),
        ({"status_code": 204, "body": "ignored"}, 204, None, b""),
        ({"status_code": 302, "headers": {"Location": "/x"}}, 302, None, b""),
        ({"headers": {"Content-Type": "text/html"}, "body": "<b>"}, 200, "text/html", b"<b>"),
        ({"headers": ["Content-Type: text/plain"], "body": "x"}, 200, "text/plain", b"x"),
        ({"headers": {"Content-Type": "text/plain"}, "body": None}, 200, "text/plain", b""),
        ({"body": "text"}, 200, "application/json", b'"text"'),
        ({"status_code": "404", "body": 1}, 404, "application/json", b"1"),
        ({"status_code": 404.0, "body": 1}, 404, "application/json", b"1"),
        ({"status_code": None, "headers": None, "body": 1}, 200, "application/json", b"1"),
        ({"other": 1}, 200, "application/json", b'{"other":1}'),
        (None, 200, "application/json", b"null"),
        ([1], 200, "application/json", b"[1]"),
    ],
)
async def test_what_a_function_answers_becomes_status_headers_and_bytes(gateway, given, status, content_type, body):
    async with gateway() as (client, pages, _):
        pages.answer = given
        answer = await client.get("/raw")
        assert (answer.status_code, answer.headers.get("content-type"), answer.content) == (status, content_type, body)


async def test_headers_that_would_split_a_response_are_left_out(gateway, caplog):
    async with gateway() as (client, pages, _):
        pages.answer = {
            "headers": {"X-Good": "1", "X-Split": "a\r\nSet-Cookie: b", "Bad Name": "1", "Content-Length": "99"},
            "body": {},
        }
        answer = await client.get("/raw")
        assert answer.headers["x-good"] == "1"
        assert not {"x-split", "set-cookie", "bad name"} & set(answer.headers)
        assert answer.headers["content-length"] == "2"


async def test_repeated_headers_are_possible_with_a_list(gateway):
    async with gateway() as (client, pages, _):
        pages.answer = {"headers": ["Set-Cookie: a=1", "Set-Cookie: b=2"], "body": {}}
        answer = await client.get("/raw")
        assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]


async def test_a_list_of_values_becomes_several_headers(gateway):
    async with gateway() as (client, pages, _):
        pages.answer = {
            "headers": {
                "Set-Cookie": ["a=1", "b=2"],
                "X-N": 5,
                "X-F": 2.5,
                "X-T": True,
                "X-Mixed": [1, "two", None],
                "X-None": None,
                "X-Empty": [],
            }
        }
        headers = (await client.get("/raw")).headers
        assert headers.get_list("set-cookie") == ["a=1", "b=2"]
        assert (headers["x-n"], headers["x-f"], headers["x-t"]) == ("5", "2.5", "true")
        assert headers.get_list("x-mixed") == ["1", "two"]
        assert not {"x-none", "x-empty"} & set(headers)


@pytest.mark.parametrize(
    "given, field",
    [
        ({"status_code": "no number"}, r'status_code is "no number"'),
        ({"status_code": True}, "status_code is true"),
        ({"status_code": 404.5}, r"status_code is 404\.5"),
        ({"status_code": [404]}, r"status_code is \[404\]"),
        ({"headers": {"X-Map": {"a": 1}}}, r'headers\["X-Map"\] is \{"a":1\}'),
        ({"headers": {"X-List": ["a", ["b"]]}}, r'headers\["X-List"\] is \["b"\]'),
        ({"headers": ["X-A: 1", 5]}, r"headers\[1\] is 5"),
        ({"headers": ["no colon"]}, r'headers\[0\] is "no colon"'),
        ({"headers": "X-A: 1"}, r'headers are "X-A: 1"'),
    ],
)
async def test_a_field_that_cannot_be_sent_is_a_500_that_the_log_explains(gateway, caplog, given, field):
    async with gateway() as (client, pages, _):
        pages.answer = {**given, "body": "secret"}
        answer = await client.get("/raw")
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (500, "serialization_error")
        assert "secret" not in answer.text
        assert re.search(f"{error['error_id']}.*`pages::raw`.*{field}", caplog.text)


@pytest.mark.parametrize("status", [0, 101, 1000, -1, "99"])
async def test_a_number_that_is_no_status_is_sent_as_200(gateway, caplog, status):
    async with gateway() as (client, pages, _):
        pages.answer = {"status_code": status}
        assert (await client.get("/raw")).status_code == 200
        assert re.search("`pages::raw` answered status_code", caplog.text)


async def test_a_failing_function_is_a_500_with_an_id_to_find_it_by(gateway, caplog):
    async with gateway() as (client, _, _):
        answer = await client.get("/broken")
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (500, "invocation_failed")
        assert error["message"] == "the function failed; why is in the log of the server, beside this error_id"
        assert re.search(f"{error['error_id']}.*it broke", caplog.text)


async def test_what_an_exception_said_is_shown_where_that_is_wanted(gateway, caplog):
    async with gateway(expose_errors=True) as (client, _, _):
        error = (await client.get("/broken")).json()["error"]
        assert (error["code"], error["message"]) == ("invocation_failed", "it broke")
        assert error["error_id"] in caplog.text


async def test_an_error_with_a_code_of_its_own_is_told(gateway, caplog):
    async def refuse(request):
        raise LinklyError("sold out until Monday", code="SOLD_OUT")

    async with gateway() as (client, _, bus):
        bus.register_function(Function("test::refuse", refuse))
        bus.register_trigger("test::refuse", http("GET", "/refused"))
        await settle()
        error = (await client.get("/refused")).json()["error"]
        assert (error["code"], error["message"]) == ("SOLD_OUT", "sold out until Monday")


@pytest.mark.parametrize("role", ["middleware", "condition"])
async def test_what_else_fails_on_the_way_to_a_function_tells_no_more(gateway, caplog, role):
    async def fail(payload):
        raise RuntimeError("SELECT secret FROM vault")

    async with gateway() as (client, _, bus):
        bus.register_function(Function("test::fail", fail))
        given = ("test::fail",) if role == "middleware" else "test::fail"
        bus.register_trigger("pages::raw", http("GET", "/guarded", **{role: given}))
        await settle()
        answer = await client.get("/guarded")
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "invocation_failed")
        assert "vault" not in answer.text
        assert "vault" in caplog.text
