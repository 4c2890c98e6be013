"""Routes of programs that start, crash, are stopped: what a client of the gateway is told meanwhile."""

import asyncio
import contextlib
import json
import os
import sys

import httpx
import pytest

from linkly.testing import settle
from support.serving import until_served

WAIT_S = 30

PROGRAM = """\
import asyncio, os, pathlib
from linkly import Client, Function
from linkly import http

async def page(payload):
    return {"body": "page"}

async def main():
    gate = pathlib.Path("gate")
    while not gate.exists():
        await asyncio.sleep(0.02)
    async with Client(os.environ["LINKLY_URL"], name=os.environ["LINKLY_WORKER_NAME"]) as bus:
        bus.register_function(Function("pages::page", page))
        bus.register_trigger("pages::page", http("GET", "/p/:name"))
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def pages(live, tmp_path, reserve_port):
    """Run a gateway beside a program that serves `/p/:name` once its gate is open."""
    folder = tmp_path / "pages"
    folder.mkdir()
    paths = os.pathsep.join(path for path in sys.path if path.endswith(("sdk", "engine", "workers")))
    (folder / "iii.worker.yaml").write_text(
        f"name: pages\nscripts:\n  start: exec {sys.executable} main.py\nenv:\n  PYTHONPATH: {json.dumps(paths)}\n"
    )
    port = reserve_port()
    text = f"  - name: http\n    config: {{port: {port}}}\n  - path: ./pages\n"

    @contextlib.asynccontextmanager
    async def run(*, gate=True, program=PROGRAM):
        (folder / "main.py").write_text(program)
        if gate:
            (folder / "gate").touch()
        async with live(text) as project, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            yield project, client, folder

    return run


async def served(project):
    async with asyncio.timeout(WAIT_S):
        child = project.project.members.find("pages").child
        await child.status.outcome()
        await until_served(project.engine, "pages::page")


def away(answer, *words):
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    body = answer.json()["error"]
    assert body["code"] == "worker_away"
    assert all(word in body["message"] for word in words), body
    return True


async def test_until_every_program_has_registered_no_path_is_unknown(pages):
    async with pages(gate=False) as (project, client, folder):
        assert away(await client.get("/p/x"), "nobody serves GET /p/x yet", "`pages`")
        assert away(await client.get("/anything"))
        assert (await client.get("/healthz")).status_code == 200
        (folder / "gate").touch()
        await served(project)
        assert (await client.get("/p/x")).json() == "page"
        assert (await client.get("/anything")).status_code == 404


async def test_a_program_that_does_not_register_makes_paths_unknown_after_a_while(pages, monkeypatch):
    monkeypatch.setattr("linkly_workers.http.absent.START_S", 0.0)
    async with pages(gate=False) as (_, client, _):
        assert (await client.get("/p/x")).status_code == 404


async def test_a_program_that_has_lost_its_connection_is_away_until_it_is_back(pages):
    async with pages() as (project, client, _):
        await served(project)
        project.project.members.find("pages").child.generation.peers[0].cut("the cable")
        await settle()
        assert away(await client.get("/p/x"), "not connected")
        await served(project)
        assert (await client.get("/p/x")).json() == "page"


async def test_a_route_whose_program_has_crashed_is_away_until_it_is_back(pages):
    async with pages() as (project, client, folder):
        await served(project)
        assert (await client.get("/p/x")).json() == "page"
        (folder / "gate").unlink()
        os.kill(project.project.members.find("pages").child.status.pid, 9)
        async with asyncio.timeout(WAIT_S):
            await project.project.members.find("pages").child.status.reaches("waiting", "starting")
        assert away(await client.get("/p/x"), "`pages`", "is away now")
        assert (await client.get("/p")).status_code == 404
        assert (await client.get("/other")).status_code == 404
        (folder / "gate").touch()
        await served(project)
        assert (await client.get("/p/x")).json() == "page"


async def test_a_route_whose_program_somebody_stopped_is_unknown(pages):
    async with pages() as (project, client, _):
        await served(project)
        await project.bus.trigger("worker::stop", {"name": "pages"})
        assert (await client.get("/p/x")).status_code == 404
        await project.bus.trigger("worker::start", {"name": "pages"})
        await served(project)
        assert (await client.get("/p/x")).json() == "page"


async def test_a_gateway_that_is_made_anew_knows_the_routes_that_are_away(pages):
    async with pages() as (project, client, folder):
        await served(project)
        (folder / "gate").unlink()
        os.kill(project.project.members.find("pages").child.status.pid, 9)
        async with asyncio.timeout(WAIT_S):
            await project.project.members.find("pages").child.status.reaches("waiting", "starting")
        await project.bus.trigger("worker::restart", {"name": "http"})
        assert away(await client.get("/p/x"), "`pages`")


IN_STEPS = """\
import asyncio, os, pathlib
from linkly import Client, Function
from linkly import http

async def answer(payload):
    return {"body": "page"}

async def until(name):
    while not pathlib.Path(name).exists():
        await asyncio.sleep(0.02)

async def main():
    async with Client(os.environ["LINKLY_URL"], name=os.environ["LINKLY_WORKER_NAME"]) as bus:
        bus.register_function(Function("pages::first", answer))
        await until("gate")
        bus.register_function(Function("pages::page", answer))
        bound = bus.register_trigger("pages::page", http("GET", "/p/:name"))
        await until("taken_back")
        bound.unregister()
        bus.register_function(Function("pages::last", answer))
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def has(project, function_id):
    async with asyncio.timeout(WAIT_S):
        await until_served(project.engine, function_id)


async def test_a_route_is_away_until_its_program_has_said_everything(pages):
    async with pages(program=IN_STEPS) as (project, client, folder):
        await served(project)
        (folder / "gate").unlink()
        os.kill(project.project.members.find("pages").child.status.pid, 9)
        async with asyncio.timeout(WAIT_S):
            await project.project.members.find("pages").child.status.reaches("waiting", "starting")
        await has(project, "pages::first")
        assert away(await client.get("/p/x"), "`pages`", "is back")
        (folder / "gate").touch()
        await served(project)
        assert (await client.get("/p/x")).json() == "page"


async def test_a_route_that_its_program_never_says_again_is_unknown_after_a_while(pages, monkeypatch):
    async with pages(program=IN_STEPS) as (project, client, folder):
        await served(project)
        monkeypatch.setattr("linkly_workers.http.absent.START_S", 0.0)
        (folder / "gate").unlink()
        os.kill(project.project.members.find("pages").child.status.pid, 9)
        async with asyncio.timeout(WAIT_S):
            await project.project.members.find("pages").child.status.reaches("waiting", "starting")
        await has(project, "pages::first")
        assert (await client.get("/p/x")).status_code == 404


async def test_a_route_that_its_program_takes_back_is_unknown(pages):
    async with pages(program=IN_STEPS) as (project, client, folder):
        await served(project)
        assert (await client.get("/p/x")).json() == "page"
        (folder / "taken_back").touch()
        await has(project, "pages::last")
        assert (await client.get("/p/x")).status_code == 404


def remembered(project):
    """Return from how many connections the gateway's routes come, as it tells the next one."""
    handed_over = project.worker("http").hand_over()
    handed_over.listener.close()
    return handed_over.absent.connections


async def test_a_gateway_that_is_made_anew_keeps_nothing_of_connections_that_are_gone(pages):
    async with pages() as (project, _, folder):
        await served(project)
        await project.bus.trigger("worker::restart", {"name": "http"})
        assert remembered(project) == 1
        (folder / "gate").unlink()
        os.kill(project.project.members.find("pages").child.status.pid, 9)
        async with asyncio.timeout(WAIT_S):
            await project.project.members.find("pages").child.status.reaches("waiting", "starting")
        assert remembered(project) == 0
