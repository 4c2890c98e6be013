"""Every example, run."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import httpx

from linkly.testing import running_engine
from linkly_engine.project.config import load
from linkly_engine.project.loader import load_workers

EXAMPLES = Path(__file__).parents[2] / "examples"


async def test_the_config_with_a_worker_of_ones_own_answers_over_http(monkeypatch):
    monkeypatch.setenv("HTTP_PORT", "0")
    workers = load_workers(load(EXAMPLES / "config.yaml"))
    async with running_engine(*workers) as bus, httpx.AsyncClient() as client:
        gateway = next(worker for worker in workers if worker.name == "http")
        answer = await client.get(f"{gateway.url}/hello/Ann")
        assert (answer.text, answer.headers["content-type"]) == ("hello Ann", "text/plain")
        assert await bus.trigger("state::get", {"scope": "greeted", "key": "Ann"}) == {"times": 1}


def test_the_worker_of_the_readme_runs_in_a_real_engine(linkly):
    (linkly.folder / "hello.py").write_text((EXAMPLES / "hello.py").read_text("utf-8"))
    with (linkly.folder / "config.yaml").open("a") as config:
        config.write("  - module: hello:HelloWorker\n")
    linkly.start()
    assert "hello::greet" in linkly.welcome
    answer = httpx.get(f"{linkly.http}/hello/Ann")
    assert (answer.status_code, answer.text, answer.headers["content-type"]) == (200, "hello Ann", "text/plain")
    assert linkly.trigger("hello::greet", "name=Ann").stdout == '"hello Ann"\n'
    assert json.loads(linkly.trigger("state::get", "scope=greeted", "key=Ann").stdout) == {"times": 2}


async def test_clicks_are_shown_as_they_happen(linkly):
    (linkly.folder / "live.py").write_text((EXAMPLES / "live.py").read_text("utf-8"))
    with (linkly.folder / "config.yaml").open("a") as config:
        config.write("  - module: live:LiveWorker\n")
    linkly.start()
    async with httpx.AsyncClient(base_url=linkly.http, timeout=30) as client:
        await client.post("/links", json={"url": "https://a.example", "code": "a"})
        async with client.stream("GET", "/live") as watching:
            events = (line async for line in watching.aiter_lines() if line.startswith("data:"))
            assert await anext(events) == "data: watching"
            for _ in range(2):
                assert (await client.get("/s/a")).status_code == 302
                event = json.loads((await anext(events)).removeprefix("data:"))
                assert (event["table"], event["op"]) == ("clicks", "insert")


async def test_the_same_worker_serves_from_a_program_of_its_own(linkly):
    linkly.start()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / "remote_worker.py"),
        linkly.url,
        stdout=subprocess.PIPE,
    )
    try:
        assert (await asyncio.wait_for(process.stdout.readline(), 30)).startswith(b"serving")
        answer = await asyncio.to_thread(linkly.trigger, "hello::greet", "name=Bob")
        assert answer.stdout == '"hello Bob"\n'
    finally:
        process.terminate()
        await process.wait()
