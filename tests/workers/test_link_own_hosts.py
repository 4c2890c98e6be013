"""No link leads to the shortener itself, however its host is spelled on either side."""

import pytest

from linkly.errors import ConfigError
from linkly.schema import read_settings
from linkly_workers.link import LinkSettings, LinkWorker

pytestmark = pytest.mark.transports(
    "in process"
)  # what a request says of itself arrives over every one, as test_link shows

BUCHER, KTO = "b\u00fccher.example", "\u043a\u0442\u043e.\u0440\u0444"


@pytest.mark.parametrize(
    "settings, host, url",
    [
        ({}, "s.example.", "http://s.example/s/x"),
        ({}, "S.example:3111", "http://s.example./s/x"),
        ({}, "[2606:4700::1111]", "http://[2606:4700::1111]/s/x"),
        ({}, "[2606:4700:0:0::1111]:80", "http://[2606:4700::1111]/s/x"),
        ({}, "134744072", "http://8.8.8.8/s/x"),
        ({"base_url": f"https://{BUCHER}."}, "x.example", "https://xn--bcher-kva.example/s/x"),
        ({"base_url": "https://xn--bcher-kva.example:8443/a"}, "x.example", f"https://{BUCHER}/s/x"),
        ({"base_url": "http://[2606:4700::3333]:80"}, "x.example", "http://[2606:4700:0::3333]/s/x"),
        ({"own_hosts": [KTO]}, "x.example", "https://xn--j1ail.xn--p1ai/s/x"),
        ({"own_hosts": [KTO]}, "x.example", f"https://{KTO}/s/x"),
        ({"own_hosts": ["2606:4700::2222"]}, "x.example", "http://[2606:4700::2222]/s/x"),
        ({"own_hosts": ["s.example:3111"]}, "x.example", "http://s.example/s/x"),
    ],
)
async def test_a_link_to_the_shortener_is_refused(shortener, settings, host, url):
    async with shortener(settings) as (client, _):
        assert (await client.post("/links", json={"url": "https://a.example", "code": "a"})).status_code == 201
        for method, path in (("POST", "/links"), ("PUT", "/links/a")):
            refused = await client.request(method, path, json={"url": url}, headers={"Host": host})
            assert refused.status_code == 400
            assert "itself" in refused.json()["error"]


@pytest.mark.parametrize("host", ["[:::::]", "[", "]", "a b", "\xff", "x:99999", "", "x/y"])
async def test_a_host_header_that_is_none_does_no_harm(shortener, host):
    # Asked without the gateway, which lets only some of these through.
    async with shortener() as (_, bus):
        request = {"headers": {"host": host}, "body": {"url": "https://a.example", "code": "a"}}
        made = await bus.trigger("link::http_create", {**request, "method": "POST"})
        assert made["status_code"] == 201
        changed = await bus.trigger("link::http_update", {**request, "method": "PUT", "path_params": {"code": "a"}})
        assert changed.get("status_code", 200) == 200
        assert changed["body"] == {"code": "a", "url": "https://a.example"}


@pytest.mark.parametrize("entry", ["", ".", "[:::::]", "https://s.example", "s.example/x", "a b", "s.example:99999"])
def test_an_own_host_that_is_none_is_a_config_error(entry):
    with pytest.raises(ConfigError, match="own_hosts"):
        LinkWorker(read_settings(LinkSettings, {"own_hosts": [entry]}, "$"))
