"""`linkly worker init`: what it writes runs as it is, in every language."""

import json
import subprocess
import sys
import time

import httpx
import pytest

from linkly_engine.process.manifest import read_manifest

CONFIG = "workers:\n  - name: iii-worker-manager\n    config: {port: 0}\n  - name: http\n    config: {port: 0}\n"
FILES = {
    "python": {"src/main.py", "requirements.txt"},
    "typescript": {"src/index.ts", "package.json", "tsconfig.json"},
    "javascript": {"src/index.js", "package.json"},
}


@pytest.fixture
def gateway(folder):
    """The project has a gateway; used before `engine`."""
    (folder / "config.yaml").write_text(CONFIG)


def runs(linkly, engine, name, logged=lambda: None):
    code, out, err = linkly("worker", "add", f"./{name}")
    assert (code, out) == (0, ""), err
    assert f"{name}: running" in err
    assert json.loads(linkly("trigger", f"{name}::hello", "name=Ann")[1]) == {"message": "hello Ann"}
    answer = httpx.get(f"{engine.http}/{name}/hello?name=Bob", timeout=20)
    assert (answer.status_code, answer.json()) == (200, {"message": "hello Bob"})
    logged()
    assert linkly("worker", "remove", name, "-y")[0] == 0
    return linkly("worker", "logs", name)


def test_a_python_worker_runs_as_it_is(gateway, engine, folder, linkly):
    assert linkly("worker", "init", "hello-1.x", "--language", "python")[0] == 0
    assert (folder / "config.yaml").read_text() == CONFIG
    code, _, _ = runs(linkly, engine, "hello-1.x")
    assert code == 1  # it is no longer in config.yaml
    written = (folder / ".linkly/logs/hello-1.x/stderr.log").read_text()
    assert "said hello to Ann" in written
    assert "hello-1.x worker ready" in written


@pytest.mark.compat
def test_a_python_worker_on_the_published_sdk_runs_as_it_is(gateway, engine, folder, linkly):
    assert linkly("worker", "init", "hello-1.x", "--language", "python", "--sdk", "iii")[0] == 0
    assert "from iii import" in (folder / "hello-1.x/src/main.py").read_text()
    runs(linkly, engine, "hello-1.x")
    written = (folder / ".linkly/logs/hello-1.x/stderr.log").read_text()
    assert "said hello to Ann" in written


def test_a_language_without_an_sdk_of_linkly_says_so(folder, linkly):
    code, _, err = linkly("worker", "init", "hello", "-l", "js", "--sdk", "linkly")
    assert code == 2
    assert "linkly has no SDK for javascript" in err
    assert list(folder.iterdir()) == []


def test_a_worker_that_cannot_heal_is_not_waited_for(engine, folder, linkly):
    assert linkly("worker", "init", "hello", "-l", "py")[0] == 0
    (folder / "hello/src/main.py").write_text("import no_such_module_here\n")
    code, _, err = linkly("worker", "add", "./hello")
    assert code == 1
    assert "hello: failed" in err
    assert "waiting" not in err
    assert "No module named 'no_such_module_here'" in err


@pytest.mark.compat
@pytest.mark.parametrize("language", ["typescript", "javascript"])
def test_a_node_worker_runs_as_it_is(gateway, engine, folder, linkly, language):
    assert linkly("worker", "init", "greeter", "-l", language)[0] == 0

    def logged():
        # The SDK sends its lines beside its answers, on a socket of their own, and those it still has end with it.
        end, names = time.monotonic() + 30, []
        while names != ["Ann", "Bob"]:
            assert time.monotonic() < end, names
            logs = json.loads(linkly("trigger", "engine::logs::list", "limit=100")[1])["logs"]
            names = sorted(row["attributes"]["log.data"]["name"] for row in logs if row["body"] == "said hello")

    runs(linkly, engine, "greeter", logged)
    if language == "typescript":
        subprocess.run(["npm", "run", "check"], cwd=folder / "greeter", check=True, capture_output=True, timeout=120)


@pytest.mark.parametrize("language", FILES)
def test_the_files_of_a_new_worker(folder, linkly, language):
    code, out, err = linkly("worker", "init", "Link_2", "--language", language, "-d", "made")
    assert (code, out) == (0, "")
    assert "linkly worker add ./made" in err
    assert not (folder / "config.yaml").exists()
    written = {path.relative_to(folder / "made").as_posix() for path in (folder / "made").rglob("*") if path.is_file()}
    assert written == {".gitignore", "iii.worker.yaml", *FILES[language]}
    manifest = read_manifest(folder / "made")
    assert manifest.name == "Link_2"
    image = f"docker.io/iiidev/{'python' if language == 'python' else 'node'}:latest"
    assert f"base_image: {image} " in (folder / "made" / "iii.worker.yaml").read_text()  # read by iii only
    assert not any("@NAME@" in (folder / "made" / name).read_text() for name in written)
    if language != "python":
        assert (manifest.install, manifest.start) == ("npm install", "npm run start")
        assert json.loads((folder / "made/package.json").read_text())["name"] == "link_2"


@pytest.mark.parametrize("sdk", ["linkly", "iii"])
def test_the_python_scaffold_is_clean(folder, linkly, sdk):
    assert linkly("worker", "init", "3-things", "-l", "py", "--sdk", sdk)[0] == 0
    for words in (["ruff", "check", "--isolated"], ["ruff", "format", "--isolated", "--check", "--line-length", "120"]):
        subprocess.run([sys.executable, "-m", *words, "3-things/src/main.py"], check=True, capture_output=True)


def test_a_second_time_keeps_what_is_there(folder, linkly):
    assert linkly("worker", "init", "hello", "-l", "py")[0] == 0
    (folder / "hello/src/main.py").write_text("mine\n")
    (folder / "hello/requirements.txt").unlink()
    assert linkly("worker", "init", "hello", "-l", "py")[0] == 0
    assert (folder / "hello/src/main.py").read_text() == "mine\n"
    assert (folder / "hello/requirements.txt").exists()


@pytest.mark.parametrize("name", [".hidden", "a..b", "a/b", "ä", "a b", "x" * 65])
def test_a_name_that_cannot_be_one_is_refused(folder, linkly, name):
    code, _, err = linkly("worker", "init", name, "--language", "python")
    assert code == 1
    assert "is no name of a worker" in err
    assert list(folder.iterdir()) == []


def test_a_folder_with_files_is_left_alone(folder, linkly):
    (folder / "hello").mkdir()
    (folder / "hello/precious.txt").write_text("x")
    code, _, err = linkly("worker", "init", "hello", "-l", "py")
    assert code == 1
    assert "--allow-non-empty" in err
    assert linkly("worker", "init", "hello", "-l", "py", "--allow-non-empty")[0] == 0
