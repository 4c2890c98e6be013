"""The gateway: real requests on a real socket, with the worker in process and over the wire."""

import asyncio
import contextlib

import httpx
import pytest

from linkly import Function, HttpRequest, HttpResponse, LinklyError, Worker, function, http
from linkly.schema import read_settings
from linkly.testing import settle
from linkly_workers.http import HttpSettings, HttpWorker
from support.raw_http import raw_http

pytestmark = pytest.mark.transports("in process", "native wire", "json wire")
gateway_alone = pytest.mark.transports("in process")
"""What the gateway judges by itself."""


class Pages(Worker):
    """Functions to reach."""

    name = "pages"

    def __init__(self) -> None:
        super().__init__()
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.may_end = asyncio.Event()

    @function("pages::echo", triggers=[http("POST", "/echo/:name"), http("GET", "/echo/:name")])
    async def echo(self, request: HttpRequest) -> HttpResponse:
        """Say what was asked."""
        return HttpResponse(
            body={
                "method": request.method,
                "path": request.path,
                "url_path": request.url_path,
                "params": request.path_params,
                "query": request.query_params,
                "body": request.body,
                "body_error": request.body_error,
                "host": "host" in request.headers,
                "client": request.client_host,
            }
        )

    @function("pages::fixed", triggers=[http("GET", "/echo/fixed")])
    async def fixed(self, request: HttpRequest) -> str:
        """Answer a value that is no response."""
        return "fixed"

    @function("pages::slow", triggers=[http("GET", "/slow"), http("POST", "/slow")])
    async def slow(self, request: HttpRequest) -> None:
        """Never answer."""
        self.started.set()
        try:
            await self.may_end.wait()
        finally:
            self.cancelled.set()


@pytest.fixture
def gateway(run):
    """Run a gateway and pages; yields a client, the pages and the bus."""

    @contextlib.asynccontextmanager
    async def start(**settings):
        worker = HttpWorker(read_settings(HttpSettings, {"port": 0, **settings}, "$"))
        pages = Pages()
        async with run(worker, pages) as bus, httpx.AsyncClient(verify=False) as client:
            await settle()
            client.base_url = worker.url
            yield client, pages, bus
            pages.may_end.set()

    start.framing = run.framing
    return start


async def test_a_request_becomes_a_call_and_its_answer_the_response(gateway):
    async with gateway() as (client, _, _):
        answer = await client.post("/echo/a%2Fb%20%C3%BC?x=1&y=&x=2&z=%C3%BC", json={"a": [1]})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {
            "method": "POST",
            "path": "/echo/:name",
            "url_path": "/echo/a/b ü",
            "params": {"name": "a/b ü"},
            "query": {"x": "2", "y": "", "z": "ü"},
            "body": {"a": [1]},
            "body_error": None,
            "host": True,
            "client": "127.0.0.1",
        }


@gateway_alone
@pytest.mark.parametrize(
    "trusted, forwarded, client_host",
    [
        ([], "203.0.113.7", "127.0.0.1"),
        (["192.0.2.1"], "203.0.113.7", "127.0.0.1"),
        (["127.0.0.1"], "203.0.113.7", "203.0.113.7"),
        (["127.0.0.0/8", "192.0.2.1"], "198.51.100.1, 203.0.113.7, 192.0.2.1", "203.0.113.7"),
        (["127.0.0.1"], "2001:db8::1", "2001:db8::1"),
        (["127.0.0.1"], "203.0.113.7:4711", "203.0.113.7"),
        (["127.0.0.1"], "[2001:db8::1]:4711", "2001:db8::1"),
        (["127.0.0.1"], ", unknown", "unknown"),
        (["127.0.0.1"], "", "127.0.0.1"),
    ],
)
async def test_the_client_is_who_a_trusted_proxy_says_it_is(gateway, trusted, forwarded, client_host):
    async with gateway(trusted_proxies=trusted) as (client, _, _):
        answer = await client.get("/echo/x", headers={"x-forwarded-for": forwarded})
        assert answer.json()["client"] == client_host


@gateway_alone
async def test_a_proxy_that_is_no_address_is_refused(run):
    with pytest.raises(LinklyError, match=r"trusted_proxies: `10\.0\.0\.1/8`"):
        async with run(HttpWorker(read_settings(HttpSettings, {"port": 0, "trusted_proxies": ["10.0.0.1/8"]}, "$"))):
            pass


@gateway_alone
async def test_a_static_segment_beats_a_parameter(gateway):
    async with gateway() as (client, _, _):
        assert (await client.get("/echo/fixed")).json() == "fixed"
        assert (await client.get("/echo/other")).json()["params"] == {"name": "other"}
        assert (await client.post("/echo/fixed")).json()["params"] == {"name": "fixed"}


@gateway_alone
async def test_unknown_path_wrong_method_head_and_options(gateway):
    async with gateway() as (client, _, _):
        missing = await client.get("/none")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "NOT_FOUND")
        wrong = await client.put("/echo/x")
        assert wrong.status_code == 405
        assert wrong.json()["error"]["code"] == "METHOD_NOT_ALLOWED"
        assert set(wrong.headers["allow"].split(", ")) == {"GET", "HEAD", "POST", "OPTIONS"}
        head = await client.head("/echo/x")
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) > 0
        options = await client.options("/echo/x")
        assert (options.status_code, options.content) == (204, b"")
        assert "GET" in options.headers["allow"]
        assert (await client.post("/healthz")).status_code == 405


async def test_a_function_that_takes_too_long_is_a_504(gateway):
    async with gateway(default_timeout=30) as (client, _, _):
        answer = await client.get("/slow")
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "TIMEOUT")


async def test_a_client_that_hangs_up_cancels_its_call(gateway):
    if gateway.framing == "json":
        return  # iii's protocol has no message for it: the call ends at its time-out
    for method in ("GET", "POST"):
        async with gateway() as (client, pages, _):
            async with raw_http(client.base_url) as connection:
                connection.send(f"{method} /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
                await asyncio.wait_for(pages.started.wait(), 10)
            await asyncio.wait_for(pages.cancelled.wait(), 10)
            assert await connection.rest() == b""


@gateway_alone
async def test_the_root_says_what_it_is_until_a_function_has_it(gateway):
    async with gateway() as (client, _, _):
        answer = await client.get("/")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "NOT_FOUND")
    assert "linkly's HTTP gateway" in answer.json()["error"]["message"]


async def test_too_many_requests_at_once_are_a_503(gateway, caplog):
    async with gateway(concurrency_request_limit=1) as (client, pages, _):
        slow = asyncio.create_task(client.get("/slow"))
        await asyncio.wait_for(pages.started.wait(), 10)
        refused = await client.get("/echo/x")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        waiting = await client.get("/readyz")
        assert (waiting.status_code, waiting.json()) == (503, {"status": "overloaded"})
        pages.may_end.set()
        assert (await slow).status_code == 200
        assert (await client.get("/readyz")).json() == {"status": "ok"}


@gateway_alone
@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_the_limit_is_a_413(gateway, declared):
    async with gateway(body_limit_bytes=1000) as (client, _, _):

        async def parts():
            for _ in range(11):
                yield b"x" * 100

        content, headers = b"x" * 1100 if declared else parts(), {"content-type": "application/json"}
        answer = await client.post("/echo/x", content=content, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")
        assert (await client.post("/echo/x", content=b"x" * 1000)).status_code == 200


@gateway_alone
async def test_a_preflight_names_the_methods_that_are_allowed(gateway):
    ask = {"origin": "https://a.example", "access-control-request-method": "PUT"}
    cors = {"allowed_origins": ["https://a.example"], "allowed_methods": ["GET", "POST"]}
    async with gateway(cors=cors) as (client, _, _):
        assert (await client.options("/none", headers=ask)).headers["access-control-allow-methods"] == "GET, POST"


async def test_conditions_and_middleware_stand_before_the_function(gateway):
    seen = []

    async def guard(payload):
        seen.append((payload["phase"], payload["request"]["path_params"]))
        if payload["request"]["headers"].get("x-key") != "good":
            return {"action": "respond", "response": {"status_code": 401, "body": {"error": "who are you?"}}}
        return {"action": "continue"}

    async def is_get(request):
        return request["query_params"].get("no") is None

    async with gateway(middleware=[{"function_id": "test::guard"}]) as (client, _, bus):
        bus.register_function(Function("test::guard", guard))
        bus.register_function(Function("test::is_get", is_get))
        bus.register_trigger("pages::fixed", http("GET", "/checked/:id", condition="test::is_get"))
        await settle()
        refused = await client.get("/checked/7")
        assert (refused.status_code, refused.json()) == (401, {"error": "who are you?"})
        good = {"x-key": "good"}
        skipped = await client.get("/checked/7?no", headers=good)
        assert (skipped.status_code, skipped.json()["skipped"]) == (422, True)
        assert (await client.get("/checked/7", headers=good)).json() == "fixed"
        assert seen[0] == ("preHandler", {"id": "7"})


async def test_a_middleware_that_says_nothing_is_passed(gateway, caplog):
    async def silent(payload):
        return {"action": "dance"}

    async with gateway() as (client, _, bus):
        bus.register_function(Function("test::silent", silent))
        for path, middleware in (("/passed", "test::silent"), ("/none", "test::none")):
            bus.register_trigger("pages::fixed", http("GET", path, middleware=(middleware,)))
        await settle()
        assert (await client.get("/passed")).json() == "fixed"
        assert "neither `continue` nor `respond`" in caplog.text
        assert (await client.get("/none")).json()["error"]["code"] == "function_not_found"


async def test_middlewares_of_a_route_run_in_their_order_after_the_gateways_own(gateway):
    seen = []

    def note(name):
        async def middleware(payload):
            seen.append(name)
            return {"action": "continue"}

        return middleware

    own = [{"function_id": "test::own2", "priority": 2}, {"function_id": "test::own1", "priority": 1}]
    async with gateway(middleware=own) as (client, _, bus):
        for name in ("own1", "own2", "first", "second"):
            bus.register_function(Function(f"test::{name}", note(name)))
        bus.register_trigger("pages::fixed", http("GET", "/ordered", middleware=("test::first", "test::second")))
        await settle()
        assert (await client.get("/ordered")).json() == "fixed"
        assert seen == ["own1", "own2", "first", "second"]


@gateway_alone
async def test_a_browsers_question_is_answered_beside_a_route_for_options(gateway):
    async with gateway() as (client, _, bus):
        bus.register_trigger("pages::fixed", http("OPTIONS", "/options"))
        await settle()
        assert (await client.options("/options")).json() == "fixed"
        asked = {"Origin": "https://a.example", "Access-Control-Request-Method": "GET"}
        preflight = await client.options("/options", headers=asked)
        assert (preflight.status_code, preflight.content) == (200, b"")


@gateway_alone
async def test_a_route_whose_parameters_have_other_names_is_refused(gateway, caplog):
    async with gateway() as (client, _, bus):
        bus.register_trigger("pages::fixed", http("GET", "/a/:x/:y"))
        await settle()
        bus.register_trigger("pages::fixed", http("GET", "/a/:p/:q"))
        await settle()
        assert (await client.get("/a/1/2")).json() == "fixed"
        assert "conflicts with already-registered route" in caplog.text


async def test_an_unbound_route_is_gone(gateway):
    async with gateway() as (client, _, bus):
        registration = bus.register_trigger("pages::fixed", http("GET", "/soon/gone"))
        await settle()
        assert (await client.get("/soon/gone")).status_code == 200
        registration.unregister()
        await settle()
        assert (await client.get("/soon/gone")).status_code == 404


@gateway_alone
@pytest.mark.parametrize(
    "raw", [b"GET / HTTP/9.9\r\n\r\n", b"nonsense\r\n\r\n", b"GET /%zz\x00 HTTP/1.1\r\nHost: x\r\n\r\n"]
)
async def test_what_is_no_http_gets_400_and_the_gateway_goes_on(gateway, raw, caplog):
    async with gateway() as (client, _, _):
        async with raw_http(client.base_url) as connection:
            connection.send(raw)
            assert b" 400 " in await connection.line()
        assert (await client.get("/healthz")).status_code == 200


@gateway_alone
async def test_a_port_in_use_says_what_to_do(run):
    async with run(first := HttpWorker(read_settings(HttpSettings, {"port": 0}, "$"))):
        port = int(first.url.rpartition(":")[2])
        with pytest.raises(LinklyError, match="stop what uses the port"):
            async with run(HttpWorker(read_settings(HttpSettings, {"port": port}, "$"))):
                pass
