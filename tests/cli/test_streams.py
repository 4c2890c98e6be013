"""stdout and stderr that cannot take what they get: a full disk, an old code page, closed, a reader that has gone."""

import asyncio
import json
import os
import subprocess
import sys

import pytest

from support.raw_native import foreign_engine

COMMAND = (sys.executable, "-m", "linkly_engine")


async def trigger(result, *, shell='exec "$@"', variables=None):
    """Run `linkly trigger` in a shell against an engine of one answer; return exit code, stdout, stderr, calls."""
    calls = []

    async def answering(socket):
        call = json.loads(await socket.recv())
        calls.append(call["data"])
        head = f'{{"type":"invocationresult","invocation_id":"{call["invocation_id"]}","result":'
        await socket.send(head + result + "}")

    async with foreign_engine(answering) as port:
        words = ["trigger", "f::x", "--address", "127.0.0.1", "--port", str(port), "a=b c"]
        process = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", shell, "sh", *COMMAND, *words,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **(variables or {})},
        )  # fmt: skip
        output, errors = await process.communicate()
    return process.returncode, output, errors.decode(), calls


@pytest.mark.parametrize("shell", ['exec "$@" >/dev/full', 'exec "$@" >&-'])
async def test_an_answer_that_stdout_does_not_take_is_said_in_one_line(shell):
    code, _, errors, calls = await trigger('"ok"', shell=shell)
    assert (code, calls) == (1, [{"a": "b c"}])
    assert errors.startswith("Error: stdout cannot be written: ")
    assert "was done" in errors
    assert len(errors.splitlines()) == 1


async def test_a_large_answer_that_a_full_disk_does_not_take_is_said_in_one_line():
    code, _, errors, _ = await trigger('"' + "x" * 100_000 + '"', shell='exec "$@" >/dev/full')
    assert (code, len(errors.splitlines())) == (1, 1)
    assert "No space left on device" in errors


async def test_a_reader_that_has_gone_is_no_error():
    code, output, errors, _ = await trigger('"' + "x" * 300_000 + '"', shell='"$@" | head -c 3; exit 0')
    assert (code, output, errors) == (0, b'"xx', "")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1"])
async def test_characters_that_an_encoding_lacks_are_json_escapes(encoding):
    code, output, errors, _ = await trigger('"\\u20ac \U0001f600 \u05d0 z"', variables={"PYTHONIOENCODING": encoding})
    assert (code, errors) == (0, "")
    assert json.loads(output.decode(encoding)) == "\u20ac \U0001f600 \u05d0 z"


async def test_half_a_surrogate_pair_in_an_answer_is_a_json_escape():
    code, output, errors, _ = await trigger('"a\\ud800b"')
    assert (code, output, errors) == (0, b'"a\\ud800b"\n', "")


async def test_an_answer_as_deep_as_the_scanner_reads_is_printed():
    depth = 600
    code, output, errors, _ = await trigger("[" * depth + "]" * depth)
    assert (code, errors) == (0, "")
    assert output.count(b"[") == depth


def run(script):
    return subprocess.run(
        ["/bin/sh", "-c", script, "sh", *COMMAND], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("words", ["trigger f --port 1", "functions --port 1", "--nonsense"])
def test_what_is_for_stderr_never_goes_to_stdout(words):
    shown = run(f'exec "$@" {words} 2>&-')
    assert (shown.returncode in (1, 2), shown.stdout) == (True, "")


@pytest.mark.parametrize("words", ["--version", "functions --help", "completion bash", "trigger --help"])
def test_every_command_says_that_stdout_is_full(words):
    shown = run(f'exec "$@" {words} >/dev/full')
    assert shown.returncode == 1
    assert "No space left on device" in shown.stderr
    assert "Traceback" not in shown.stderr
    assert "Exception ignored" not in shown.stderr


@pytest.mark.parametrize(
    "text", ["{{name}}", "[1,2", '"abc', "{1:2}", '{"a" 1}', "[1 2]", '{"a":1,}', '"\\ud8"', '"a\nb"']
)
def test_what_only_looks_like_json_is_text(text):
    # In a process of its own: others have imported what the scanner misses here.
    code = (
        "import sys; from linkly_engine.cli.arguments import parse; print(parse(['f', sys.argv[1]]).payload()['x'] "
        "== sys.argv[1][2:])"
    )
    shown = subprocess.run([sys.executable, "-c", code, f"x={text}"], capture_output=True, text=True, check=False)
    assert (shown.stdout, shown.stderr) == ("True\n", "")


@pytest.mark.parametrize("text, where", [("{bad", "column 2"), ("[1,2", "column 5"), ('{"a":', "character 6")])
def test_json_that_is_none_is_refused_with_its_place(text, where):
    shown = subprocess.run([*COMMAND, "trigger", "f", "--json", text], capture_output=True, text=True, check=False)
    assert shown.returncode == 1
    assert shown.stderr.startswith(f"Error: --json: invalid JSON `{text}`: ")
    assert where in shown.stderr
    assert "Traceback" not in shown.stderr
