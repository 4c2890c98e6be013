"""State of a real engine process across kill -9, a full disk and an orderly stop."""

import asyncio
import contextlib
import os
import resource
import signal

import pytest

from linkly import Client, Function, LinklyError
from linkly import state as state_trigger

WAIT_S = 30


@pytest.fixture
def durable(linkly):
    """A project whose state is in files."""
    config = linkly.folder / "config.yaml"
    state = "  - name: state\n    config: {adapter: {name: kv, config: {store_method: file_based, file_path: state}}}\n"
    config.write_text(config.read_text().replace("  - name: state\n", state))
    return linkly


def client(linkly, name):
    return Client(linkly.url, name=name)


async def test_every_answered_write_is_there_after_kill_9_in_the_middle_of_writes(durable):
    durable.start()
    answered: dict[str, int] = {}
    counted = [0]
    enough = asyncio.Event()

    async def write(bus, caller):
        for number in range(1_000_000):
            await bus.trigger("state::set", {"scope": "s", "key": caller, "value": number})
            answered[caller] = number
            ops = [{"type": "increment", "path": "n", "by": 1}]
            answer = await bus.trigger("state::update", {"scope": "count", "key": "k", "ops": ops})
            counted[0] = max(counted[0], answer["new_value"]["n"])
            if counted[0] > 1000:
                enough.set()

    async with client(durable, "writer") as bus:
        writers = [asyncio.create_task(write(bus, f"caller {number}")) for number in range(20)]
        async with asyncio.timeout(WAIT_S):
            await enough.wait()
        os.kill(durable.pid, signal.SIGKILL)
        await asyncio.to_thread(durable.end, signal.SIGKILL)
        for writer in writers:
            writer.cancel()
        await asyncio.gather(*writers, return_exceptions=True)
    durable.start()
    async with client(durable, "reader") as bus:
        for caller, number in answered.items():
            value = await bus.trigger("state::get", {"scope": "s", "key": caller})
            assert value in (number, number + 1), "what was on its way may be there or not"
        count = (await bus.trigger("state::get", {"scope": "count", "key": "k"}))["n"]
        assert counted[0] <= count <= counted[0] + 20
    assert len(answered) == 20


async def test_an_orderly_stop_loses_nothing_either(durable):
    durable.start()
    async with client(durable, "writer") as bus:
        for number in range(10):
            await bus.trigger("state::set", {"scope": "s", "key": f"k{number}", "value": number})
        assert await asyncio.to_thread(durable.end, signal.SIGTERM) == 0
    durable.start()
    async with client(durable, "reader") as bus:
        assert await bus.trigger("state::list", {"scope": "s"}) == list(range(10))


async def test_a_full_disk_is_an_error_until_there_is_room_again(durable):
    durable.start()
    pid = durable.pid
    no_limit = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    address = {"scope": "s", "key": "k"}
    async with client(durable, "writer") as bus:
        await bus.trigger("state::set", {**address, "value": "small"})
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (100_000, no_limit[1]))
        with pytest.raises(LinklyError, match="nothing was changed at s/k") as failure:
            await bus.trigger("state::set", {**address, "value": "x" * 1_000_000})
        assert failure.value.code == "SET_ERROR"
        ops = [{"type": "append", "path": "", "value": "x" * 1_000_000}]
        with pytest.raises(LinklyError) as failure:
            await bus.trigger("state::update", {**address, "ops": ops})
        assert failure.value.code == "UPDATE_ERROR"
        assert await bus.trigger("state::get", address) == "small"
        resource.prlimit(pid, resource.RLIMIT_FSIZE, no_limit)
        answer = await bus.trigger("state::set", {**address, "value": "y" * 1_000_000})
        assert answer["old_value"] == "small"
    durable.end(signal.SIGKILL)
    durable.start()
    async with client(durable, "reader") as bus:
        assert await bus.trigger("state::get", address) == "y" * 1_000_000


async def test_events_that_wait_when_the_engine_is_told_to_stop_are_delivered_first(durable):
    durable.start()
    seen, started, may_finish = [], asyncio.Event(), asyncio.Event()

    async def note(event):
        seen.append(event["new_value"])
        started.set()
        await may_finish.wait()

    async with client(durable, "listener") as listener:
        listener.register_function(Function("test::note", note))
        listener.register_trigger("test::note", state_trigger(scope="s"))
        # Frames of one connection are served in order: the answer says that the registrations have arrived.
        await listener.trigger("engine::workers::list")
        for number in range(20):
            await listener.trigger("state::set", {"scope": "s", "key": "k", "value": number})
        async with asyncio.timeout(WAIT_S):
            await started.wait()
        ending = asyncio.create_task(asyncio.to_thread(durable.end, signal.SIGTERM))
        async with asyncio.timeout(WAIT_S):
            with contextlib.suppress(OSError):  # the port closes first
                while True:
                    _, writer = await asyncio.open_connection("127.0.0.1", durable.worker_port)
                    writer.transport.abort()
        assert not ending.done()
        may_finish.set()
        assert await asyncio.wait_for(ending, WAIT_S) == 0
    assert seen == list(range(20))


async def test_a_second_engine_may_not_have_the_same_files(durable, tmp_path):
    durable.start()
    ports = {f"port: {durable.worker_port}": "port: 0", f"port: {durable.http_port}": "port: 0"}
    config = (durable.folder / "config.yaml").read_text()
    for port, other in ports.items():
        config = config.replace(port, other)
    (durable.folder / "second.yaml").write_text(config)
    second = await asyncio.to_thread(durable.run, "-c", "second.yaml")
    assert second.returncode == 1
    assert "another engine is using it" in second.stderr
    assert "Traceback" not in second.stderr
