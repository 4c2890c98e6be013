"""`linkly trigger` against engines that are missing, slow, foreign or broken."""

import asyncio
import json
import os
import pty
import sys

import pytest

from linkly_engine.cli.main import main
from support.raw_native import foreign_engine


async def linkly(*words):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "linkly_engine", *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


async def against(handler, *words):
    """Run the command against an engine of another make."""
    async with foreign_engine(handler) as port:
        return await linkly("trigger", "--address", "127.0.0.1", "--port", str(port), *words)


async def answer(socket, **fields):
    call = json.loads(await socket.recv())
    return json.dumps({"type": "invocationresult", "invocation_id": call["invocation_id"], **fields})


async def test_no_engine_is_said_with_what_to_do():
    code, output, errors = await linkly("trigger", "f::x", "--port", "1", "--address", "127.0.0.1")
    assert (code, output) == (1, "")
    assert "no engine at 127.0.0.1:1" in errors
    assert "Is the engine running at the given address and port?" in errors
    assert "Traceback" not in errors


async def test_an_unknown_host_is_said():
    code, _, errors = await linkly("trigger", "f::x", "--address", "no.such.host.invalid")
    assert code == 1
    assert "no.such.host.invalid" in errors


async def test_a_function_that_is_late_is_told_from_an_engine_that_is_not_there():
    async def silent(socket):
        pass

    code, _, errors = await against(silent, "f::x", "--timeout-ms", "300")
    assert code == 1
    assert "`f::x` has not answered within 300 ms and may still be at work; the engine at 127.0.0.1:" in errors
    assert "--timeout-ms MS gives it longer" in errors
    assert "running?" not in errors


async def test_an_engine_that_hangs_times_out():
    async def hang(socket):
        socket.answers_pings = False

    code, _, errors = await against(hang, "f::x", "--timeout-ms", "300")
    assert code == 1
    assert "Timed out waiting for the engine (no response within the timeout)" in errors
    assert "takes connections, but answers nothing" in errors


async def test_an_answer_in_pieces_behind_a_ping_is_read():
    async def in_pieces(socket):
        await socket.send('{"type":"workerregistered","worker_id":"x"}')
        text = await answer(socket, function_id="f::x", result={"b": ["ü", 1.5], "a": "x" * 70_000})
        await socket.ping()
        await socket.send_in_pieces(text, 1000)

    code, output, errors = await against(in_pieces, "f::x")
    assert (code, errors) == (0, "")
    assert json.loads(output) == {"a": "x" * 70_000, "b": ["ü", 1.5]}
    assert output.startswith('{\n  "a": "xxx')


async def test_an_error_is_printed_as_json_on_stderr():
    async def failing(socket):
        await socket.send(await answer(socket, function_id="f::x", error={"code": "E1", "message": "no"}))

    code, output, errors = await against(failing, "f::x")
    assert (code, output) == (1, "")
    assert json.loads(errors.removeprefix("Error: ")) == {"code": "E1", "message": "no", "stacktrace": None}


async def test_an_error_is_one_readable_line_on_a_terminal():
    async def failing(socket):
        error = {"code": "E1", "message": "no\nsuch\tluck\x1b[31m", "stacktrace": "at x\nat y"}
        await socket.send(await answer(socket, function_id="f::x", error=error))

    master, slave = pty.openpty()
    try:
        async with foreign_engine(failing) as port:
            words = ["trigger", "f::x", "--address", "127.0.0.1", "--port", str(port)]
            process = await asyncio.create_subprocess_exec(sys.executable, "-m", "linkly_engine", *words, stderr=slave)
            await process.wait()
        shown = os.read(master, 65536).decode()
    finally:
        os.close(master)
        os.close(slave)
    assert (process.returncode, shown) == (1, "Error: E1: no such luck[31m\r\n")


@pytest.mark.parametrize("flag", [["-o", "json"], ["--output=json"]])
async def test_an_error_is_json_where_that_is_asked_for(flag):
    async def failing(socket):
        await socket.send(await answer(socket, function_id="f::x", error={"code": "E1", "message": "no"}))

    _, _, errors = await against(failing, "f::x", *flag)
    assert json.loads(errors) == {"code": "E1", "message": "no", "stacktrace": None}


async def test_an_error_is_one_line_where_that_is_asked_for():
    async def failing(socket):
        await socket.send(await answer(socket, function_id="f::x", error={"code": "E1", "message": "no"}))

    _, _, errors = await against(failing, "f::x", "-o", "text")
    assert errors == "Error: E1: no\n"


async def test_an_engine_that_closes_is_said():
    async def closing(socket):
        await socket.recv()
        await socket.close()

    code, _, errors = await against(closing, "f::x")
    assert code == 1
    assert "closed the connection before it answered" in errors


async def test_what_is_no_engine_is_said():
    async def refuse(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = str(server.sockets[0].getsockname()[1])
        code, _, errors = await linkly("trigger", "f::x", "--address", "127.0.0.1", "--port", port)
    assert code == 1
    assert "is no engine, or one of another version" in errors
    assert "it answered `HTTP/1.1 404 Not Found`" in errors


@pytest.mark.parametrize("length", [0, 2**32 - 1])
async def test_a_frame_with_a_length_that_none_has_is_said(length):
    async def mad(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: linkly-native/1\r\nConnection: Upgrade\r\n\r\n")
        writer.write(length.to_bytes(4, "big") + b"\0")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(mad, "127.0.0.1", 0) as server:
        port = str(server.sockets[0].getsockname()[1])
        code, _, errors = await linkly("trigger", "f::x", "--address", "127.0.0.1", "--port", port)
    assert code == 1
    assert f"sent what is no frame: {length} bytes were announced" in errors


async def test_a_large_payload_is_sent_whole():
    async def measuring(socket):
        call = json.loads(await socket.recv())
        size = len(call["data"]["text"])
        await socket.send(
            json.dumps({"type": "invocationresult", "invocation_id": call["invocation_id"], "result": size})
        )

    code, output, _ = await against(measuring, "f::x", "text=" + "ab" * 50_000)
    assert (code, output) == (0, "100000\n")


@pytest.mark.parametrize(
    "word, half",
    [(r'--json={"text":"a\ud800b"}', r"'\ud800'"), ("text=\udcff", r"'\udcff'")],
)
async def test_text_that_has_no_utf_8_is_refused(word, half):
    received = []

    async def noting(socket):
        received.extend([message async for message in socket])

    code, output, errors = await against(noting, "f::x", word)
    assert (code, output, received) == (1, "", [])
    assert f"the payload holds {half}" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("text", ["nonsense", '{"result": 1e999}', '{"result": NaN}'])
async def test_an_answer_that_is_no_json_is_said(text):
    async def foreign(socket):
        await socket.send(text)

    code, output, errors = await against(foreign, "f::x")
    assert (code, output) == (1, "")
    assert "sent what is no JSON" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    "words, code, text",
    [
        (["trigger"], 2, "missing FUNCTION_PATH"),
        (["trigger", "--help"], 0, "linkly trigger FUNCTION"),
        (["--help"], 0, "Usage:"),
        (["--version"], 0, "0."),
        (["--nonsense"], 2, "unknown option `--nonsense`"),
        (["wokers"], 2, "did you mean `linkly workers`?"),
        (["tigger", "f"], 2, "did you mean `linkly trigger`?"),
        (["state::get"], 2, "`linkly trigger state::get`"),
        (["-c"], 2, "needs a file name"),
        (["-c", "no/such/file.yaml"], 1, "cannot be read"),
        (["trigger", "f", "x"], 1, "expected key=value, got `x`"),
        (["t", "f", "-o", "xml"], 2, "expected json or text, got `xml`"),
        (["t", "f", "--json", "[1]", "a=b"], 1, "--json must be an object"),
        (["t", "f", "--json", '{"a":1e999}'], 1, "1e999 is too large for a number"),
        (["t", "f", "--json", "[-1e400]"], 1, "-1e400 is too large for a number"),
    ],
)
def test_usage(words, code, text, capfd):
    assert main(words) == code
    shown = capfd.readouterr()
    assert text in (shown.out if code == 0 else shown.err)
    assert (shown.out == "") == (code != 0)


@pytest.mark.parametrize("fields", [{}, {"result": None}])
async def test_a_call_that_answers_nothing_prints_null(fields):
    async def quiet(socket):
        await socket.send(await answer(socket, function_id="f::x", **fields))

    assert await against(quiet, "f::x") == (0, "null\n", "")
