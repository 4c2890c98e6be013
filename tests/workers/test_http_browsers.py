"""Browsers at the gateway: pages from elsewhere, and names that were rebound to this machine."""

import socket
from contextlib import asynccontextmanager

import httpx
import pytest

from linkly import HttpRequest, TriggerDeclaration, Worker, function, http
from linkly.errors import ConfigError
from linkly.schema import read_settings
from linkly.testing import running_engine, settle
from linkly_workers.http import HttpSettings, HttpWorker
from linkly_workers.http.proxies import Proxies

pytestmark = pytest.mark.transports("in process")  # the gateway judges by heads alone, before it calls

METHODS = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]
LOCAL_PAGES = ["http://localhost:5173", "http://127.0.0.1:8000", "https://localhost", "http://[::1]:3000"]
FOREIGN_PAGES = [
    *("https://evil.example", "null", "http://localhost.evil.example", "http://127.0.0.1.evil.example:3111"),
    *("http://192.168.1.7", "chrome-extension://localhost", "localhost", ""),
]
MARKS = [
    {"origin": "http://localhost:5173"},
    {"sec-fetch-site": "same-origin"},
    {"sec-fetch-mode": "navigate"},
    {"sec-fetch-dest": "empty"},
    {"user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/130.0.0.0"},
    {"accept-language": "en"},  # a page that reads its own address over plain HTTP sends none of the above
]


class Notes(Worker):
    """Notes what reaches it."""

    name = "notes"

    def __init__(self, declared: dict | None = None) -> None:
        super().__init__()
        self.seen: list[str] = []
        self._declared = declared or {}

    def triggers_of(self, function) -> list[TriggerDeclaration]:
        """Declare what the test wants."""
        return [http(method, "/notes", stream=False) for method in METHODS if method != "HEAD"] + [
            TriggerDeclaration(type="http", config={"api_path": "/declared", **self._declared})
        ]

    @function("notes::note")
    async def note(self, request: HttpRequest) -> dict:
        """Note a request."""
        self.seen.append(request.method)
        return {}


@pytest.fixture
def gateway():
    """Run a gateway and notes; yields a client and the notes.

    In process alone: the gateway judges before it calls. A binding crosses the wire in the test that asks for `run`.
    """

    @asynccontextmanager
    async def start(declared=None, **settings):
        worker = HttpWorker(read_settings(HttpSettings, {"port": 0, **settings}, "$"))
        notes = Notes(declared)
        async with running_engine(worker, notes), httpx.AsyncClient(verify=False) as client:
            await settle()
            client.base_url = worker.url
            yield client, notes

    return start


@pytest.mark.parametrize("origin", FOREIGN_PAGES)
async def test_a_page_from_elsewhere_changes_nothing(gateway, origin):
    async with gateway() as (client, notes):
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            answer = await client.request(method, "/notes", headers={"origin": origin})
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "FORBIDDEN_ORIGIN")
            assert "`cors.allowed_origins`" in answer.json()["error"]["message"]
        assert notes.seen == []


@pytest.mark.parametrize("origin", FOREIGN_PAGES)
async def test_a_page_from_elsewhere_cannot_read_what_it_asks_for(gateway, origin):
    async with gateway() as (client, _):
        for path in ("/notes", "/none", "/healthz", "/openapi.json"):
            answer = await client.get(path, headers={"origin": origin})
            assert "access-control-allow-origin" not in answer.headers
            assert answer.headers["vary"] == "origin"
        preflight = {"origin": origin, "access-control-request-method": "PUT"}
        assert "access-control-allow-origin" not in (await client.options("/notes", headers=preflight)).headers


@pytest.mark.parametrize("origin", LOCAL_PAGES)
async def test_a_page_of_this_machine_may_do_everything_by_default(gateway, origin):
    async with gateway() as (client, notes):
        for method in METHODS:
            answer = await client.request(method, "/notes", headers={"origin": origin})
            assert answer.status_code == 200
            assert answer.headers["access-control-allow-origin"] == origin
        assert notes.seen == METHODS
        preflight = {"origin": origin, "access-control-request-method": "PUT"}
        answer = await client.options("/notes", headers=preflight)
        assert answer.headers["access-control-allow-origin"] == origin
        assert answer.headers["access-control-allow-methods"] == "PUT"


@pytest.mark.parametrize("origin", [*LOCAL_PAGES, *FOREIGN_PAGES])
async def test_a_star_admits_every_page(gateway, origin):
    async with gateway(cors={"allowed_origins": ["*"]}) as (client, _):
        answer = await client.post("/notes", headers={"origin": origin})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*")


async def test_names_admit_their_pages_alone(gateway):
    async with gateway(cors={"allowed_origins": ["https://A.example:443"]}) as (client, _):
        admitted = await client.post("/notes", headers={"origin": "https://a.example"})
        assert admitted.headers["access-control-allow-origin"] == "https://a.example"
        for origin in (*LOCAL_PAGES, "http://a.example", "https://a.example:444", "https://b.a.example"):
            assert (await client.post("/notes", headers={"origin": origin})).status_code == 403


@pytest.mark.parametrize(
    "origin, host",
    [
        ("http://s.example:3111", "s.example:3111"),
        ("https://s.example", "s.example"),
        ("https://s.example", "S.EXAMPLE:443"),
        ("http://s.example", "s.example:80"),
    ],
)
async def test_a_page_of_the_gateway_itself_may_do_everything(gateway, origin, host):
    cors = {"allowed_origins": ["https://a.example"]}
    async with gateway(cors=cors, allowed_hosts=["s.example"]) as (client, _):
        headers = {"origin": origin, "host": host}
        assert (await client.post("/notes", headers=headers)).status_code == 200


@pytest.mark.parametrize("origin", ["https://s.example:80", "http://s.example:443", "https://go.example", "https://"])
async def test_another_port_or_name_of_the_same_host_is_another_page(gateway, origin):
    async with gateway(allowed_hosts=["s.example", "go.example"]) as (client, _):
        headers = {"origin": origin, "host": "s.example"}
        assert (await client.post("/notes", headers=headers)).status_code == 403


async def test_a_program_is_not_judged(gateway):
    async with gateway() as (client, notes):
        for host in ("evil.example", "gateway.internal:3111"):
            assert (await client.post("/notes", headers={"host": host})).status_code == 200
        assert notes.seen == ["POST", "POST"]


@pytest.mark.parametrize("mark", MARKS)
async def test_a_browser_that_takes_this_machine_for_another_host_is_told_so(gateway, mark):
    async with gateway() as (client, notes):
        for path in ("/notes", "/none", "/healthz"):
            answer = await client.get(path, headers={**mark, "host": "evil.example:3111"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (421, "MISDIRECTED_REQUEST")
            assert "`evil.example`" in answer.json()["error"]["message"]
            assert "`allowed_hosts`" in answer.json()["error"]["message"]
        assert notes.seen == []


@pytest.mark.parametrize("host", ["localhost", "LocalHost:3111", "localhost.", "127.0.0.1:1", "[::1]", "[::1]:3111"])
@pytest.mark.parametrize("mark", MARKS)
async def test_a_browser_may_use_every_name_of_this_machine(gateway, mark, host):
    async with gateway() as (client, _):
        assert (await client.get("/notes", headers={**mark, "host": host})).status_code == 200


@pytest.mark.parametrize(
    "listed, host",
    [
        ("s.example", "s.example"),
        ("S.Example.", "s.example:3111"),
        ("s.example:3111", "S.EXAMPLE."),
        ("münchen.example", "xn--mnchen-3ya.example"),
        ("fd00::1", "[fd00::1]:3111"),
    ],
)
async def test_a_browser_may_use_a_name_that_is_listed(gateway, listed, host):
    async with gateway(allowed_hosts=[listed]) as (client, _):
        answer = await client.get("/notes", headers={"sec-fetch-site": "none", "host": host})
        assert answer.status_code == 200


async def test_what_a_trusted_proxy_passes_on_may_have_any_name(gateway):
    headers = {"sec-fetch-site": "none", "host": "s.example"}
    async with gateway(trusted_proxies=["127.0.0.0/8"]) as (client, _):
        assert (await client.get("/notes", headers=headers)).status_code == 200
        # Behind it a page of this machine is a page like any other one, and the gateway's own are its own.
        assert (await client.post("/notes", headers={**headers, "origin": "https://s.example"})).status_code == 200
        assert (await client.post("/notes", headers={**headers, "origin": "https://evil.example"})).status_code == 403
    async with gateway(trusted_proxies=["192.0.2.1"]) as (client, _):
        assert (await client.get("/notes", headers=headers)).status_code == 421


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="IPv4 clients do not reach `::` here")
async def test_a_trusted_proxy_over_ipv4_is_known_on_a_socket_for_both_families(gateway):
    async with gateway(host="::", trusted_proxies=["127.0.0.1"]) as (client, _):
        url = f"http://127.0.0.1:{client.base_url.port}/notes"
        headers = {"sec-fetch-site": "none", "host": "s.example"}
        assert (await client.get(url, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "address, here",
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("127.0.0.9", False),
        ("192.168.1.7", False),
        ("2001:db8::1", False),
        ("::ffff:192.168.1.7", False),
    ],
)
def test_only_direct_requests_over_loopback_are_judged_by_their_host(address, here):
    assert Proxies(["127.0.0.9", "10.0.0.0/8"]).is_local_client(address) is here


async def test_a_worker_s_route_says_by_which_names_the_world_reaches_the_gateway(gateway):
    declared = {"origin": "https://s.example:8443", "hosts": ["go.example"]}
    async with gateway(declared) as (client, _):
        for host in ("s.example:8443", "s.example", "go.example"):
            answer = await client.get("/notes", headers={"sec-fetch-site": "none", "host": host})
            assert answer.status_code == 200
        for origin, status in (
            ("https://s.example:8443", 200),
            ("https://s.example", 403),
            ("https://go.example", 403),
        ):
            assert (await client.post("/notes", headers={"origin": origin})).status_code == status


async def test_names_go_with_the_route_that_said_them(run):
    gateway = HttpWorker(read_settings(HttpSettings, {"port": 0}, "$"))
    config = {"api_path": "/notes", "http_method": "GET", "hosts": ["s.example"]}
    headers = {"sec-fetch-site": "none", "host": "s.example"}
    async with run(gateway, Notes()) as bus, httpx.AsyncClient(verify=False, base_url=gateway.url) as client:
        registered = bus.register_trigger("notes::note", TriggerDeclaration(type="http", config=config))
        await settle()
        assert (await client.get("/notes", headers=headers)).status_code == 200
        registered.unregister()
        await settle()
        assert (await client.get("/healthz", headers=headers)).status_code == 421


async def test_the_shortener_s_base_url_and_own_hosts_are_names_of_the_gateway(shortener):
    async with shortener({"base_url": "https://S.example/", "own_hosts": ["go.example:8443"]}) as (client, _):
        for host, status in (("s.example", 404), ("go.example", 404), ("evil.example", 421)):
            answer = await client.get("/s/none", headers={"sec-fetch-site": "none", "host": host})
            assert answer.status_code == status
        body = {"url": "https://example.com", "code": "mine"}
        refused = await client.post("/links", json=body, headers={"origin": "https://evil.example"})
        assert refused.status_code == 403
        assert (await client.get("/links/mine")).status_code == 404
        made = await client.post("/links", json=body, headers={"origin": "https://s.example"})
        assert made.status_code == 201


@pytest.mark.parametrize(
    "settings, problem",
    [
        ({"allowed_hosts": ["https://s.example"]}, r"\$\.allowed_hosts: `https://s\.example` is no host"),
        ({"allowed_hosts": ["*"]}, r"allowed_hosts: `\*` is no host"),
        ({"cors": {"allowed_origins": ["a.example"]}}, r"\$\.cors\.allowed_origins: `a\.example` is no origin"),
        ({"cors": {"allowed_origins": ["https://a.example/"]}}, r"`https://a\.example/` is no origin"),
        ({"cors": {"allowed_origins": ["null"]}}, r"allowed_origins: `null`"),
    ],
)
def test_a_name_or_an_origin_that_is_none_is_refused_before_anything_starts(settings, problem):
    with pytest.raises(ConfigError, match=problem):
        read_settings(HttpSettings, settings, "$")
