"""What a function is told of a request, and what the gateway answers without asking one."""

import asyncio
import contextlib
import gzip

import httpx
import pytest

from linkly import HttpRequest, HttpResponse, Worker, function, http
from linkly.schema import read_settings
from linkly.testing import settle
from linkly_workers.http import HttpSettings, HttpWorker


class Pages(Worker):
    name = "pages"

    @function("pages::echo", triggers=[http("POST", "/echo"), http("GET", "/echo")])
    async def echo(self, request: HttpRequest) -> HttpResponse:
        """Say what was asked."""
        return HttpResponse(body={"body": request.body, "scheme": request.scheme})

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


async def test_a_packed_json_body_is_a_415_that_says_so_and_the_connection_goes_on(gateway):
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


async def test_options_of_the_server_and_of_its_own_pages_say_what_is_allowed(gateway):
    async with gateway() as client:
        own = await client.options("/healthz")
        assert (own.status_code, own.content) == (204, b"")
        assert set(own.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        writer.write(b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.startswith(b"HTTP/1.1 204 ")
        assert b"allow: GET, POST, " in answer
        writer.close()


async def test_a_request_that_is_refused_in_its_body_leaves_no_traceback(gateway, caplog):
    async with gateway() as client:
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        head = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
        writer.write(head + b"Transfer-Encoding: chunked\r\n\r\n")
        assert b" 100 " in await asyncio.wait_for(reader.readline(), 10)
        writer.write(b"2\r\n{}\r\nzz\r\n")
        assert b"HTTP/1.1 400 " in await asyncio.wait_for(reader.read(), 10)
        await settle()
        assert "Exception in ASGI" not in caplog.text
        writer.close()
