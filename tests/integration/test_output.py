"""What a real `linkly` process writes to stderr, for people and for programs."""

import asyncio
import json
import os
import re
import signal
import subprocess
from contextlib import asynccontextmanager

import pytest

from linkly import Client, Function
from support.engine_process import COMMAND, UP
from support.program import Program

WAIT_S = 20
CONFIG = """\
workers:
  - name: iii-worker-manager
    config: {port: 0}
  - name: state
  - name: http
    config: {port: 0}
"""
LINE = re.compile(r"\d\d:\d\d:\d\d\.\d{3} [A-Z]{4,5} +\S+ +\S")


@asynccontextmanager
async def linkly(folder, *words, config=CONFIG, **environment):
    """Run `linkly` in a folder until the block ends."""
    (folder / "config.yaml").write_text(config)
    shape = {"COLUMNS": "80", "NO_COLOR": "", "FORCE_COLOR": ""}
    program = Program([*COMMAND, *words], folder=folder, environment={**shape, **environment}, stream="stderr")
    try:
        yield program
    finally:
        program.kill()


async def serve_and_log(url):
    """Connect a worker that serves a function, and log a line under its name."""

    async def hello():
        """Say hello."""

    async with Client(url, name="greeter") as client:
        client.register_function(Function("greeter::hello", hello))
        await client.trigger("engine::functions::list")
        forged = "hello\n12:00:00.000 ERROR engine      all is lost"
        await client.trigger(
            "engine::log::warn", {"message": forged, "data": {"to": "the world"}, "trace_id": "ab" * 16}
        )


async def test_people_get_a_line_for_everything_that_happens(tmp_path):
    async with linkly(tmp_path) as engine:
        await engine.line("state::set")
        url = (await engine.line("workers connect to")).split()[-1]
        end = engine.lines.index(await engine.line(UP)) + 1
        await serve_and_log(url)
        await engine.line("Worker disconnected")
        code, lines = await engine.ended(), engine.lines
    welcome, after = "\n".join(lines[:end]), [line for line in lines[end:] if line]
    assert code == 0
    assert "http at              http://127.0.0.1:" in welcome
    assert "\x1b" not in "".join(lines)
    odd = [line for line in after if not LINE.match(line)]
    assert odd == ["             | 12:00:00.000 ERROR engine      all is lost"]
    said = [line[13:] for line in after]
    assert "INFO  greeter     [REGISTERED] Function greeter::hello" in said
    registered = next(line for line in said if "Worker registered" in line)
    assert re.fullmatch(
        r"INFO  greeter     Worker registered  name=greeter id=[0-9a-f-]{36} address=127.0.0.1 pid=\d+", registered
    )
    assert any(line.startswith("WARN  greeter     hello  to=") and line.endswith("trace=abababab") for line in said)
    assert not any(line.startswith("ERROR") for line in said)
    assert said[-1].startswith("INFO  engine      stopping")


async def test_programs_get_one_json_object_a_line_the_welcome_included(tmp_path):
    old_name = CONFIG.replace("- name: state", "- name: iii-state")
    async with linkly(tmp_path, "--log-format", "json", config=old_name) as engine:
        welcome = json.loads(await engine.line("is up"))
        url = next(row["url"] for row in welcome["data"]["addresses"] if row["what"] == "workers connect to")
        await serve_and_log(url)
        async with Client(url, name="reader") as reader:
            kept = (await reader.trigger("engine::logs::list"))["logs"]
        code, lines = await engine.ended(), engine.lines
    events = [json.loads(line) for line in lines]
    assert code == 0
    assert {"timestamp", "level", "worker", "message", "data", "trace_id", "span_id"} <= set.intersection(
        *(set(event) for event in events)
    )
    assert "old name" in events[0]["message"]
    state = next(row for row in welcome["data"]["workers"] if row["name"] == "state")
    assert (state["status"], "state::get" in state["functions"]) == ("running", True)
    line = next(event for event in events if event["level"] == "WARN")
    assert (line["worker"], line["data"], line["trace_id"]) == ("greeter", {"to": "the world"}, "ab" * 16)
    assert line["message"] == "hello\n12:00:00.000 ERROR engine      all is lost"
    bodies = [(row["service_name"], row["body"]) for row in kept]
    assert ("linkly", "[REGISTERED] Function greeter::hello") in bodies
    assert ("greeter", line["message"]) in bodies
    assert len([body for _, body in bodies if body == line["message"]]) == 1


async def test_colours_that_are_forced_wrap_their_own_words(tmp_path):
    async with linkly(tmp_path, FORCE_COLOR="1") as engine:
        await engine.line(UP)
        await engine.ended()
        lines = engine.lines
    assert any("\x1b[32mINFO \x1b[0m" in line for line in lines)
    assert all(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) <= 81 for line in lines[:-1])


@pytest.mark.parametrize("log_format", ["text", "json"])
async def test_why_it_did_not_start_is_one_sentence_in_the_format_asked_for(tmp_path, log_format):
    async with linkly(tmp_path, f"--log-format={log_format}", config="workers:\n  - name: stat\n") as engine:
        assert await asyncio.to_thread(engine.wait) == 1
        text = "\n".join([*engine.lines, ""])
    if log_format == "json":
        event = json.loads(text)
        assert event["level"] == "ERROR"
        text = f"Error: {event['message']}\n"
    assert text.startswith("Error: config.yaml:2: $.workers[0].name: there is no worker `stat`; did you mean `state`?")
    assert text.count("\n") == 1


@pytest.mark.parametrize("words", [["--log-format", "xml"], ["--log-format"], ["--colour"]])
async def test_wrong_words_are_refused_with_the_way_to_help(tmp_path, words):
    async with linkly(tmp_path, *words) as engine:
        assert await asyncio.to_thread(engine.wait) == 2
        text = "\n".join(engine.lines)
    assert text.startswith("Error: ")
    assert words[0] in text.splitlines()[0]
    assert "`linkly --help`" in text


async def test_an_output_that_nobody_reads_stops_neither_calls_nor_the_end(tmp_path, reserve_port):
    port = reserve_port()
    (tmp_path / "config.yaml").write_text(CONFIG.replace("port: 0", f"port: {port}", 1))
    nobody, output = os.pipe()
    engine = subprocess.Popen(COMMAND, cwd=tmp_path, stdin=subprocess.DEVNULL, stderr=output)  # noqa: ASYNC220
    try:
        async with asyncio.timeout(WAIT_S), Client(f"ws://127.0.0.1:{port}", name="talker") as client:
            for _ in range(400):  # 800 kB: more than a pipe holds
                await client.trigger("engine::log::info", {"message": "x" * 2000})
            assert (await client.trigger("engine::logs::list", {"limit": 1}))["total"] >= 400
        engine.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(engine.wait, WAIT_S) == 0
    finally:
        engine.kill()
        engine.wait()
        os.close(nobody)
        os.close(output)
