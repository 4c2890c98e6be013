"""A real `linkly` follows its config.yaml, however an editor writes it."""

import asyncio
import os
import re
import signal
import subprocess

import httpx
import pytest

from linkly import Client
from support.engine_process import COMMAND, UP

WAIT_S = 20


async def until(client, reached):
    """Ask `worker::list` again and again until it says what is waited for."""
    listed = None
    try:
        async with asyncio.timeout(WAIT_S):
            while True:
                listed = await client.trigger("worker::list")
                rows = {row["name"]: row for row in listed["workers"]}
                if reached(listed, rows):
                    return rows
                await asyncio.sleep(0.02)  # the engine tells nobody that it looked at the file
    except TimeoutError:
        pytest.fail(f"`worker::list` never said what was waited for, but {listed}")


def replaced(path, text):
    """Write a file as editors do: beside it, then over it by renaming."""
    beside = path.with_name(".config.yaml.swp")
    beside.write_text(text)
    os.replace(beside, path)


async def test_the_engine_follows_its_file(linkly, reserve_port):
    file = linkly.folder / "config.yaml"
    text = file.read_text()
    linkly.start()
    async with Client(linkly.url, name="watcher") as client, httpx.AsyncClient() as browser:
        await client.trigger("state::set", {"scope": "s", "key": "k", "value": "kept"})
        await browser.post(f"{linkly.http}/links", json={"url": "https://iii.dev", "code": "iii"})

        # Renamed over the file, with an error in it: refused, with its line.
        replaced(file, text.replace("name: link", "name: lnik"))
        await until(client, lambda listed, _: "config.yaml:8: $.workers[4].name" in (listed["config_error"] or ""))
        assert (await browser.get(f"{linkly.http}/s/iii")).status_code == 302

        # Written in place, with another port: the gateway moves, nothing else is touched.
        port = reserve_port()
        file.write_text(text.replace(f"port: {linkly.http_port}", f"port: {port}"))
        rows = await until(client, lambda listed, rows: rows["http"]["restarts"] and not listed["config_error"])
        assert [name for name, row in rows.items() if row["restarts"]] == ["http"]
        assert (await browser.get(f"http://127.0.0.1:{port}/s/iii")).status_code == 302
        assert await client.trigger("state::get", {"scope": "s", "key": "k"}) == "kept"

        # A signal is another way to have the file read.
        linkly.send(signal.SIGHUP)
        replaced(file, file.read_text() + "  - module: mine:Mine\n")
        await until(client, lambda listed, _: "mine" in (listed["config_error"] or ""))
        (linkly.folder / "mine.py").write_text(
            "from linkly import Worker, function\n\n\nclass Mine(Worker):\n    name = 'mine'\n\n"
            "    @function('mine::hello')\n    async def hello(self) -> str:\n        return 'hi'\n"
        )
        linkly.send(signal.SIGHUP)
        await until(client, lambda _, rows: "mine" in rows)
        assert await client.trigger("mine::hello") == "hi"
    assert await asyncio.to_thread(linkly.end, signal.SIGTERM) == 0


async def test_no_request_fails_while_the_workers_behind_it_are_made_anew(linkly):
    file = linkly.folder / "config.yaml"
    linkly.start()
    url = linkly.url
    async with Client(url, name="watcher") as client, httpx.AsyncClient() as browser:
        await browser.post(f"{linkly.http}/links", json={"url": "https://iii.dev", "code": "iii"})
        answers: list[httpx.Response] = []
        done = asyncio.Event()

        async def follow() -> None:
            while not done.is_set():
                answers.append(await browser.get(f"{linkly.http}/s/iii", timeout=WAIT_S))

        followers = [asyncio.create_task(follow()) for _ in range(8)]
        for length in (7, 8, 9):
            text = file.read_text()
            lines = text.split("  - name: link\n")[0]
            replaced(file, f"{lines}  - name: link\n    config: {{code_length: {length}}}\n")
            await until(client, lambda _, rows, length=length: rows["link"]["restarts"] == length - 6)
        await client.trigger("worker::restart", {"name": "database"})
        await client.trigger("worker::restart", {"name": "state"})
        done.set()
        await asyncio.gather(*followers)
        assert [(each.status_code, each.text) for each in answers if each.status_code != 302] == []
        assert (await client.trigger("link::verify"))["ok"]
        counted = await client.trigger("database::query", {"db": "primary", "sql": "SELECT COUNT(*) AS n FROM clicks"})
        assert counted["rows"] == [{"n": len(answers)}]


async def test_a_terminal_that_is_closed_ends_the_engine(linkly):
    terminal, inside = os.openpty()
    try:
        engine = subprocess.Popen(  # noqa: ASYNC220
            COMMAND,
            cwd=linkly.folder,
            stdin=subprocess.DEVNULL,
            stderr=inside,
            start_new_session=True,
        )
    finally:
        os.close(inside)
    try:
        written = b""
        async with asyncio.timeout(WAIT_S):
            while UP.encode() not in written:
                written += await asyncio.to_thread(os.read, terminal, 4096)
            # While the terminal is there, the signal is a request like any other.
            engine.send_signal(signal.SIGHUP)
            url = re.search(rb"ws://[\d.:]+", written)[0].decode()
            async with Client(url, name="watcher") as client:
                assert (await client.trigger("worker::list"))["config_error"] is None
        os.close(terminal)
        engine.send_signal(signal.SIGHUP)
        assert await asyncio.to_thread(engine.wait, WAIT_S) == 0
    finally:
        engine.kill()
        engine.wait()
