"""`setup` and `install` run once, and again when what they depend on has changed."""

import asyncio
import json
import os

from linkly.testing import ManualClock


def runs(children, name="installs"):
    path = children.folder / name
    return path.read_text().splitlines() if path.exists() else []


async def test_scripts_run_once_in_order(children):
    async with children() as run:
        run.manifest("exec sleep 1000", setup="echo setup >> ../installs", install="echo install >> ../installs")
        for _ in range(2):
            await (await run.spawned()).stop()
        await run.spawned()
        assert runs(run) == ["setup", "install"]


async def test_a_changed_dependency_file_installs_again_while_the_worker_serves(children, program, said):
    async with children() as run:
        run.manifest("exec python main.py", install="echo install >> ../installs")
        run.write("main.py", program())
        run.write("requirements.txt", "")
        child = await run.started()
        first = child.status.pid
        with said("linkly.process") as lines:
            run.write("requirements.txt", "six\n")
            await lines.line_with("has been replaced")
        await child.status.outcome()
        assert (child.status.state, child.status.restarts) == ("running", 1)
        assert child.status.pid != first
        assert runs(run) == ["install", "install"]


async def test_a_lock_file_that_the_installer_rewrites_is_no_change(children, program, said):
    async with children() as run:
        run.manifest("exec python main.py", install='echo "$$" > package-lock.json; echo install >> ../installs')
        run.write("main.py", program())
        child = await run.started()
        with said("linkly.process") as lines:
            run.write("main.py", program("two"))
            await lines.line_with("has been replaced")
        await child.status.outcome()
        assert runs(run) == ["install"]


async def test_a_folder_of_dependencies_that_has_gone_is_made_again(children):
    async with children() as run:
        run.manifest("exec sleep 1000", install="mkdir -p node_modules; echo install >> ../installs")
        for _ in range(2):
            await (await run.spawned()).stop()
            (run.folder / "w" / "node_modules").rmdir()
        assert runs(run) == ["install", "install"]


async def test_an_install_that_fails_is_tried_again_when_a_file_changes(children, program):
    async with children() as run:
        run.manifest(
            "exec python main.py",
            install="echo install >> ../installs; grep six requirements.txt || (echo no six >&2; exit 3)",
        )
        run.write("main.py", program())
        run.write("requirements.txt", "")
        child = await run.started()
        assert child.status.state == "failed"
        for part in ("`install`", "exit code 3", "no six", "linkly worker restart w"):
            assert part in child.status.reason
        run.write("requirements.txt", "six\n")
        await child.status.reaches("running")
        assert child.status.reason is None
        assert await run.bus.trigger("w::version") == "one"
        assert runs(run) == ["install", "install"]


async def test_what_a_failing_install_leaves_behind_is_no_reason_to_try_again(children, program, said):
    async with children() as run:
        os.mkfifo(run.folder / "gate")
        run.manifest(
            "exec python main.py",
            install="echo install >> ../installs; date +%N > early; cat ../gate; date +%N > late; grep six *.txt",
        )
        run.write("main.py", program())
        run.write("requirements.txt", "")
        with said("linkly.process") as lines:
            child = run.child()
            await child.start()
            await lines.line_with("early changed")
            await asyncio.to_thread((run.folder / "gate").write_text, "go")
            await child.status.reaches("failed")
            await lines.line_with("nothing has changed since it ended")
        (run.folder / "gate").unlink()
        (run.folder / "gate").touch()
        run.write("requirements.txt", "six\n")
        await child.status.reaches("running")
        assert runs(run) == ["install", "install"]


async def test_a_broken_manifest_fails_with_its_place_until_it_is_mended(children, program):
    async with children() as run:
        run.write("main.py", program())
        run.write("iii.worker.yaml", "name: w\nscripts:\n  begin: x\n")
        child = await run.started()
        assert child.status.state == "failed"
        assert "iii.worker.yaml:3: $.scripts.begin" in child.status.reason
        run.manifest("exec python main.py")
        await child.status.reaches("running")


async def test_scripts_see_the_environment_of_a_worker(children):
    dump = "import json, os; print(json.dumps(dict(os.environ), default=str))"
    async with children() as run:
        run.manifest(
            f"python -c '{dump}' > ../environment; python -c 'import linkly' && echo ready; exec sleep 1000",
            env={"OWN": "1", "III_URL": "ws://elsewhere", "III_ENGINE_URL": "ws://elsewhere"},
            install=f"python -c '{dump}' > ../install-environment",
        )
        await run.after_its_word("ready", config={"greeting": "hi"}, config_path=run.folder / "config.yaml")
        for name in ("environment", "install-environment"):
            seen = json.loads((run.folder / name).read_text())
            assert seen["III_URL"] == seen["III_ENGINE_URL"] == seen["LINKLY_URL"] == run.url
            assert seen["III_WORKER_NAME"] == seen["LINKLY_WORKER_NAME"] == "w"
            assert seen["III_CONFIG_PATH"] == str(run.folder / "config.yaml")
            assert json.loads(seen["LINKLY_WORKER_CONFIG"]) == {"greeting": "hi"}
            assert int(seen["III_ENGINE_PID"]) > 1
            assert (seen["OWN"], seen["PYTHONUNBUFFERED"]) == ("1", "1")


async def test_an_install_that_does_not_end_is_given_up_after_half_an_hour(children, ended):
    clock = ManualClock()
    async with children(clock=clock) as run:
        run.manifest("exec sleep 1000", install="echo $$; exec sleep 1000")
        child = await run.after_its_word("")
        script = int(child.output.tail(1)[0][0])
        await clock.advance(1799)
        assert child.status.state == "installing"
        await clock.advance(1)
        await child.status.outcome()
        assert "has not ended in 1800 s" in child.status.reason
        assert ended(script)
