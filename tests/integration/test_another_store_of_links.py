"""When config.yaml names another store of links or of state, nothing of the one before is served."""

import asyncio
import contextlib

import httpx
import pytest

from linkly import Client, LinklyError

WAIT_S = 20


async def changed(client, name, change):
    """Change config.yaml and wait until the worker was made anew."""
    restarts = (await client.trigger("worker::status", {"name": name}))["restarts"]
    change()
    async with asyncio.timeout(WAIT_S):
        while (await client.trigger("worker::status", {"name": name}))["restarts"] == restarts:
            pass  # the engine tells nobody that it looked at the file


@contextlib.asynccontextmanager
async def running(linkly):
    linkly.start()
    async with (
        Client(linkly.url, name="watcher") as client,
        httpx.AsyncClient(base_url=linkly.http) as browser,
    ):
        yield client, browser


def configure(linkly, old, new):
    file = linkly.folder / "config.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.mark.parametrize("count", ["before_redirect", "in_background"])
async def test_a_memory_store_that_is_made_anew_starts_without_links(linkly, count):
    configure(linkly, "name: link\n", f"name: link\n    config: {{store: memory, count: {count}}}\n")
    async with running(linkly) as (client, browser):
        await browser.post("/links", json={"url": "https://iii.dev", "code": "iii"})
        assert (await browser.get("/s/iii")).status_code == 302
        await changed(client, "link", lambda: configure(linkly, "store: memory", "store: memory, code_length: 7"))
        assert await client.trigger("link::resolve", {"code": "iii"}) == {"url": None}
        assert (await browser.get("/s/iii")).status_code == 404
        assert await client.trigger("state::list_keys", {"scope": "links"}) == {"keys": []}


async def test_links_of_another_database_are_not_served(linkly):
    configure(linkly, "name: link\n", "name: link\n    config: {count: in_background}\n")
    database = "name: database\n    config: {databases: {primary: {url: 'sqlite:./one.db'}}}\n"
    configure(linkly, "name: database\n", database)
    async with running(linkly) as (client, browser):
        await browser.post("/links", json={"url": "https://one.example", "code": "a"})
        await changed(client, "database", lambda: configure(linkly, "one.db", "two.db"))
        async with asyncio.timeout(WAIT_S):  # the others are told after the new one has started
            while (await browser.get("/s/a")).status_code != 404:
                pass
        assert await client.trigger("link::resolve", {"code": "a"}) == {"url": None}
        await browser.post("/links", json={"url": "https://two.example", "code": "a"})
        assert await client.trigger("link::resolve", {"code": "a"}) == {"url": "https://two.example"}
        await changed(client, "database", lambda: configure(linkly, "two.db", "one.db"))
        async with asyncio.timeout(WAIT_S):
            while (await browser.get("/s/a")).headers.get("location") != "https://one.example":
                pass


async def test_values_of_another_database_are_not_served(linkly):
    configure(linkly, "name: state\n", "name: state\n    config: {adapter: {name: database}}\n")
    database = "name: database\n    config: {databases: {primary: {url: 'sqlite:./one.db'}}}\n"
    configure(linkly, "name: database\n", database)
    address = {"scope": "s", "key": "k"}
    async with running(linkly) as (client, _):
        await client.trigger("state::set", {**address, "value": "one"})
        await changed(client, "database", lambda: configure(linkly, "one.db", "two.db"))

        async def value():
            try:
                return await client.trigger("state::get", address)
            except LinklyError as error:  # its tables are made when the new database is up
                return error

        async with asyncio.timeout(WAIT_S):
            while await value() is not None:
                pass
        assert (await client.trigger("state::set", {**address, "value": "two"}))["old_value"] is None
        await changed(client, "database", lambda: configure(linkly, "two.db", "one.db"))
        assert await value() == "one"
