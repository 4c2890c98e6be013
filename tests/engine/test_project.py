"""config.yaml changes under a running engine: what did not change is not touched, what did is made anew."""

import asyncio

import httpx
import pytest

from linkly.errors import ConfigError, FunctionNotFound, NotFound
from linkly.testing import ManualClock, settle
from linkly_engine.project.loader import read

STATE = "  - name: state\n"
HTTP = "  - name: http\n    config: {port: 0}\n"


def probe(**settings):
    block = ", ".join(f"{key}: {value}" for key, value in settings.items())
    return f"  - module: live_probe:Probe\n    config: {{{block}}}\n"


async def in_flight(live):
    """Begin a call that waits inside the probe."""
    call = asyncio.create_task(live.bus.trigger("probe::wait"))
    await live.probe.entered.wait()
    return call


async def test_a_changed_port_moves_the_gateway_and_nothing_else(live, reserve_port):
    port = reserve_port()
    async with live(STATE + HTTP + probe()) as run, httpx.AsyncClient() as client:
        await run.bus.trigger("state::set", {"scope": "s", "key": "k", "value": 1})
        untouched = [run.worker("state"), run.worker("probe")]
        old = run.worker("http").url
        call = await in_flight(run)
        applied = await run.change(STATE + HTTP.replace("port: 0", f"port: {port}") + probe())
        assert (applied.changed, applied.started, applied.stopped, applied.problems) == (["http"], [], [], [])
        assert str(applied) == f"changed http; http at http://127.0.0.1:{port}"
        assert [run.worker("state"), run.worker("probe")] == untouched
        assert await run.bus.trigger("state::get", {"scope": "s", "key": "k"}) == 1
        assert (await client.get(f"http://127.0.0.1:{port}/hello")).json() == "hello"
        with pytest.raises(httpx.ConnectError):
            await client.get(f"{old}/hello")
        run.probe.gate.set()
        assert await call == "hello"


async def test_new_calls_wait_for_the_next_generation(live):
    async with live(HTTP + probe(greeting="old")) as run, httpx.AsyncClient() as client:
        first = await in_flight(run)
        change = asyncio.create_task(run.change(HTTP + probe(greeting="new")))
        await run.until_it_ends("probe::hello")
        second = asyncio.create_task(run.bus.trigger("probe::hello"))
        request = asyncio.create_task(client.get(f"{run.worker('http').url}/hello"))
        await settle()
        assert [each.done() for each in (change, first, second, request)] == [False] * 4
        run.probe.gate.set()
        # What a call in flight calls in its own worker is part of it.
        assert await first == "old"
        assert (await second)["body"] == "new"
        answer = await request
        assert (answer.status_code, answer.json()) == (200, "new")
        assert (await change).changed == ["probe"]
        assert run.probe.notes == ["old ends", "new starts"]


async def test_a_call_that_does_not_end_is_not_waited_for_for_ever(live):
    clock = ManualClock()
    async with live(probe(greeting="old"), clock=clock) as run:
        call = await in_flight(run)
        change = asyncio.create_task(run.change(probe(greeting="new")))
        await run.until_it_ends("probe::hello")
        await clock.advance(9.9)
        assert not change.done()
        await clock.advance(0.1)
        assert (await change).changed == ["probe"]
        assert (await run.bus.trigger("probe::hello"))["body"] == "new"
        call.cancel()


async def test_a_worker_is_added_and_removed(live):
    async with live(STATE) as run:
        applied = await run.change(STATE + probe())
        assert (applied.started, str(applied)) == (["probe"], "started probe")
        assert await run.bus.trigger("probe::hello") == {"body": "hello"}
        applied = await run.change(STATE)
        assert applied.stopped == ["probe"]
        with pytest.raises(FunctionNotFound):
            await run.bus.trigger("probe::hello")
        assert list(await run.rows()) == ["state"]


async def test_a_removed_worker_only_finishes_its_calls(live):
    async with live(HTTP + probe()) as run, httpx.AsyncClient() as client:
        call = await in_flight(run)
        change = asyncio.create_task(run.change(HTTP))
        await run.until_it_ends("probe::hello")
        with pytest.raises(FunctionNotFound):
            await run.bus.trigger("probe::hello")
        assert (await client.get(f"{run.worker('http').url}/hello")).status_code == 404
        run.probe.gate.set()
        assert await call == "hello"
        assert (await change).stopped == ["probe"]


@pytest.mark.parametrize(
    "text, expected",
    [
        (STATE + "  - nme: x\n", [":5: $.workers[2].nme", "unknown key"]),
        (STATE + "  - name: [\n", ["config.yaml:", "not valid YAML"]),
        (STATE + "  - name: ${NO_SUCH_VARIABLE_HERE}\n", [":5:", "NO_SUCH_VARIABLE_HERE"]),
        (probe(greeting="new") + "  - name: http\n    config: {port: -1}\n", ["$.workers[2].config.port"]),
        (probe(greeting="new", typo=1), ["$.workers[1].config", "typo"]),
        (STATE + "  - path: ./nowhere\n", [":5: $.workers[2].path", "nowhere", "linkly worker init"]),
    ],
)
async def test_a_file_that_cannot_be_used_changes_nothing(live, caplog, text, expected):
    async with live(probe()) as run:
        before = run.worker("probe")
        assert await run.change(text) is None
        assert run.worker("probe") is before
        refusal = (await run.bus.trigger("worker::list"))["config_error"]
        for part in ["config.yaml", *expected]:
            assert part in refusal
            assert part in caplog.text
        with pytest.raises(ConfigError) as verdict:
            read(run.folder / "config.yaml")
        assert verdict.value.message == refusal
        applied = await run.change(probe(greeting="new"))
        assert applied.changed == ["probe"]
        assert (await run.bus.trigger("worker::list"))["config_error"] is None


@pytest.mark.parametrize(
    "broken, reason", [({"fail_start": "true"}, "no disk"), ({"fail_ready": "true"}, "RuntimeError: no table")]
)
async def test_a_worker_that_cannot_start_runs_by_its_earlier_settings(live, broken, reason):
    async with live(STATE + probe(greeting="old")) as run:
        applied = await run.change(STATE + HTTP + probe(greeting="new", **broken))
        assert applied.started == ["http"]
        (problem,) = applied.problems
        assert "config.yaml:7: $.workers[3]" in problem
        assert reason in problem
        assert "earlier settings" in problem
        assert (await run.bus.trigger("probe::hello"))["body"] == "old"
        row = (await run.rows())["probe"]
        assert row["running"]
        assert reason in row["reason"]
        # Corrected, it is applied.
        assert (await run.change(STATE + HTTP + probe(greeting="new"))).changed == ["probe"]
        assert "reason" not in (await run.rows())["probe"]


async def test_a_busy_port_leaves_the_gateway_where_it_was(live, reserve_port):
    port = reserve_port()
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port)
    async with server, live(HTTP + probe()) as run, httpx.AsyncClient() as client:
        applied = await run.change(HTTP.replace("port: 0", f"port: {port}") + probe())
        assert f"127.0.0.1:{port}" in applied.problems[0]
        assert (await client.get(f"{run.worker('http').url}/hello")).status_code == 200


async def test_a_new_worker_that_cannot_start_is_tried_again(live):
    async with live(STATE) as run:
        applied = await run.change(STATE + probe(fail_start="true"))
        assert applied.started == []
        row = (await run.rows())["probe"]
        assert (row["status"], row["running"]) == ("failed", False)
        assert "no disk" in row["reason"]
        assert "linkly worker restart probe" in (await run.bus.trigger("worker::status", {"name": "probe"}))["hint"]
        again = await run.project.reload(forced=True)
        assert "no disk" in again.problems[0]
        assert (await run.change(STATE + probe())).started == ["probe"]


async def test_workers_that_are_made_anew_keep_their_place_in_the_order_of_the_end(live):
    async with live(probe(greeting="old") + STATE) as run:
        await run.change(probe(greeting="new") + STATE)
        assert [worker.name for worker in run.engine.host.running] == ["probe", "state"]
        await run.change(STATE + probe(greeting="new"))
        assert [worker.name for worker in run.engine.host.running] == ["state", "probe"]
        assert run.probe.notes == ["old ends", "new starts"]


async def test_a_change_comes_to_its_end_without_its_caller(live):
    async with live(probe(greeting="old")) as run:
        call = await in_flight(run)
        change = asyncio.create_task(run.change(probe(greeting="new")))
        await run.until_it_ends("probe::hello")
        change.cancel()
        run.probe.gate.set()
        assert await call == "old"
        assert (await run.bus.trigger("probe::hello"))["body"] == "new"


async def test_a_file_that_goes_away_stops_nothing(live, caplog):
    async with live(probe()) as run:
        (run.folder / "config.yaml").unlink()
        assert await run.project.reload() is None
        assert await run.project.reload() is None
        assert caplog.text.count("is gone") == 1
        assert (await run.bus.trigger("probe::hello"))["body"] == "hello"
        assert (await run.change(probe(greeting="back"))).changed == ["probe"]


async def test_the_functions_of_the_project_name_the_workers_there_are(live):
    async with live(STATE + probe()) as run:
        with pytest.raises(NotFound, match=r"no worker `stat` in config\.yaml; there: `state`, `probe`"):
            await run.bus.trigger("worker::status", {"name": "stat"})
        status = await run.bus.trigger("worker::status", {"name": "probe"})
        assert status["kind"] == "module"
        assert status["function_ids"] == ["probe::hello", "probe::wait"]
        assert status["started_at_ms"] > 0
        assert (await run.bus.trigger("worker::status", {"name": "iii-state"}))["kind"] == "shipped"
        logs = await run.bus.trigger("worker::logs", {"name": "state", "tail": 5})
        assert logs == {"name": "state", "logs_dir": None, "stdout": [], "stderr": []}
