"""What a function is told of a request, and what the gateway answers without asking one."""

import contextlib
import gzip

import httpx
import pytest

from linkly import HttpRequest, HttpResponse, Worker, function, http
from linkly.schema import read_settings
from linkly.testing import settle
from linkly_workers.http import HttpSettings, HttpWorker
from linkly_workers.http.exchange import Exchange
from support.raw_http import raw_http


class Pages(Worker):
    name = "pages"

    @function("pages::echo", triggers=[http("POST", "/echo"), http("GET", "/echo")])
    async def echo(self, request: HttpRequest) -> HttpResponse:
        """Say what was asked."""
        return HttpResponse(
            body={
                "body": request.body,
                "body_error": request.body_error,
                "scheme": request.scheme,
                "headers": request.headers,
                "repeated": request.repeated_headers,
            }
        )

    @function("pages::raw", triggers=[http("POST", "/raw", stream=True)])
    async def raw(self, request: HttpRequest) -> HttpResponse:
        """Unpack the body."""
        reader = await self.bus.open_reader(request.request_body)
        return HttpResponse(body=gzip.decompress(await reader.read_all()).decode())


@pytest.fixture
def gateway(run):
    @contextlib.asynccontextmanager
    async def start(**settings):
        worker = HttpWorker(read_settings(HttpSettings, {"port": 0, **settings}, "$"))
        async with run(worker, Pages()), httpx.AsyncClient(verify=False) as client:
            await settle()
            client.base_url = worker.url
            yield client

    return start


@pytest.mark.parametrize(
    "content_type, parsed",
    [
        ("application/json", True),
        ("Application/Json; charset=utf-8", True),
        ("application/json ;charset=utf-8", True),
        ("application/problem+json", True),
        ("application/vnd.api+JSON;x=1", True),
        ("application/jsonp-not", False),
        ("text/plain; x=application/json", False),
        ("application/json-seq", False),
    ],
)
async def test_a_media_type_is_json_by_its_name_or_its_suffix(gateway, content_type, parsed):
    async with gateway() as client:
        answer = await client.post("/echo", content=b'{"a":1}', headers={"content-type": content_type})
        assert answer.json()["body"] == ({"a": 1} if parsed else None)


async def test_a_packed_json_body_is_a_415_that_says_so(gateway):
    async with gateway() as client:
        headers = {"content-type": "application/json", "content-encoding": "gzip"}
        answer = await client.post("/echo", content=gzip.compress(b"{}"), headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
        assert "`Content-Encoding: gzip` is not unpacked here" in answer.json()["error"]["message"]
        assert answer.headers["accept-encoding"] == "identity"
        headers["content-encoding"] = "identity"
        assert (await client.post("/echo", content=b"{}", headers=headers)).json()["body"] == {}


async def test_a_function_that_reads_the_raw_body_gets_it_packed(gateway):
    async with gateway() as client:
        headers = {"content-type": "application/json", "content-encoding": "gzip"}
        answer = await client.post("/raw", content=gzip.compress(b'{"a":1}'), headers=headers)
        assert answer.json() == '{"a":1}'


@pytest.mark.parametrize("trusted, scheme", [([], "http"), (["127.0.0.1"], "https")])
async def test_the_scheme_is_what_a_trusted_proxy_says_it_is(gateway, trusted, scheme):
    async with gateway(trusted_proxies=trusted) as client:
        answer = await client.get("/echo", headers={"x-forwarded-proto": "https"})
        assert answer.json()["scheme"] == scheme


async def test_options_of_the_servers_own_pages_say_what_is_allowed(gateway):
    async with gateway() as client:
        own = await client.options("/healthz")
        assert (own.status_code, own.content) == (204, b"")
        assert set(own.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
        async with raw_http(client.base_url) as connection:
            connection.send(b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = await connection.rest()
        assert answer.startswith(b"HTTP/1.1 204 ")
        assert b"allow: GET, POST, " in answer


async def test_a_request_that_is_refused_in_its_body_leaves_no_traceback(gateway, caplog):
    async with gateway() as client, raw_http(client.base_url) as connection:
        head = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
        connection.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
        assert b" 100 " in await connection.line()
        connection.send(b"2\r\n{}\r\nzz\r\n")
        assert b"HTTP/1.1 400 " in await connection.rest()
        await settle()
        assert "Exception in ASGI" not in caplog.text


@pytest.mark.parametrize(
    "content, content_type, body",
    [
        (b'{"a": 1}', "application/json; charset=utf-8", {"a": 1}),
        (b'{"a": 1}', "text/plain", None),
        (b"{broken", "application/json", None),
        (b"", "application/json", None),
        (b"[" * 100_000, "application/json", None),
        (b'{"a": "\xff"}', "application/json", None),
        (b'{"\xc3": 1}', "application/json", None),
        (b"\xff", "application/json", None),
        (b'"\\ud800"', "application/json", None),
        (b"1e400", "application/json", None),
        (b"1" * 5000, "application/json", None),
        (b"null", "application/json", None),
    ],
)
async def test_only_a_json_body_is_parsed(gateway, content, content_type, body):
    async with gateway() as client:
        answer = await client.post("/echo", content=content, headers={"content-type": content_type})
        assert (answer.status_code, answer.json()["body"]) == (200, body)


@pytest.mark.parametrize(
    "content, content_type, problem",
    [
        (b"", "application/json", None),
        (b"", None, None),
        (b"null", "application/json", None),
        (b'{"a": 1}', "application/json", None),
        (b"{broken", "application/json", "the body is no JSON: "),
        (b'{"a": "\xff"}', "application/json", "the body is no JSON: a text in it is not UTF-8 (invalid start byte)"),
        (b"[" * 100_000, "application/json", "it is nested too deeply"),
        (b'{"a": 1}', "text/plain", "its Content-Type is `text/plain`; send `Content-Type: application/json`"),
        (b'{"a": 1}', None, "it has no Content-Type; send `Content-Type: application/json`"),
    ],
)
async def test_a_function_is_told_why_it_got_no_body(gateway, content, content_type, problem):
    async with gateway() as client:
        headers = {} if content_type is None else {"content-type": content_type}
        told = (await client.post("/echo", content=content, headers=headers)).json()["body_error"]
        assert told is problem is None or problem in told


async def test_the_last_of_repeated_headers_counts_but_for_cookies(gateway):
    lines = [("cookie", "a=1"), ("x-id", "1"), ("cookie", "b=2; c=3"), ("x-id", ""), ("x-id", "2"), ("x-one", "1")]
    async with gateway() as client:
        told = (await client.get("/echo", headers=lines)).json()
        assert (told["headers"]["cookie"], told["headers"]["x-id"]) == ("a=1; b=2; c=3", "2")
        assert told["repeated"] == {"cookie": ["a=1", "b=2; c=3"], "x-id": ["1", "", "2"]}


async def test_headers_that_came_once_are_not_repeated(gateway):
    async with gateway() as client:
        assert (await client.get("/echo", headers={"cookie": "a=1"})).json()["repeated"] == {}


def test_a_request_that_is_printed_shows_no_secrets():
    asked = Exchange(
        None, "GET", "/a", "token=s3cret", [(b"cookie", b"s3cret")], {"cookie": "s3cret"}, "::1", "http", True
    )
    assert repr(asked) == "Exchange(GET /a)"
