"""Rules that hold for every file of the project."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from linkly.testing import running_engine
from linkly_engine.project.config import parse
from linkly_engine.project.loader import load_worker
from linkly_engine.shipped import shipped_names

ROOT = Path(__file__).parents[2]
TRACKED = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    if (ROOT / name).is_file()
]


def test_there_are_files_to_check():
    assert len([path for path in TRACKED if path.suffix == ".py"]) > 50


def test_no_test_reaches_for_private_attributes():
    """The lint refuses them unless a line carries its mark."""
    mark = "noqa: " + "SLF001"
    tests = [path for path in TRACKED if path.suffix == ".py" and path.is_relative_to(ROOT / "tests")]
    assert [str(path) for path in tests if mark in path.read_text("utf-8")] == []


def test_no_file_names_a_path_of_one_machine():
    pattern = re.compile(r"(?<![\w.])/(?:work|root|home)/\w")
    found = [
        str(path.relative_to(ROOT))
        for path in TRACKED
        if path.name != "LICENSE" and path.suffix != ".svg" and pattern.search(path.read_text("utf-8", "replace"))
    ]
    assert found == []


async def test_every_function_that_ships_is_documented(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = re.sub(r"\bport: \d+", "port: 0", (ROOT / "config.yaml").read_text("utf-8"))
    workers = [load_worker(entry) for entry in parse(text, "test").workers]
    assert {worker.name for worker in workers} == set(shipped_names())
    readme = (ROOT / "README.md").read_text("utf-8")
    async with running_engine(*workers) as bus:
        listed = (await bus.trigger("engine::functions::list"))["functions"]
    shown = [row for row in listed if "alias_of" not in row.get("metadata", {})]
    assert len(shown) > 10
    for row in shown:
        group, _, name = row["function_id"].partition("::")
        line = next((line for line in readme.splitlines() if f"`{group}::" in line and f"{name}`" in line), None)
        assert line is not None, f"{row['function_id']} is not in the README's table"
        assert row.get("description"), f"{row['function_id']} has no description"


def test_every_shipped_worker_is_in_the_readme_and_in_the_default_config():
    readme, config = (ROOT / "README.md").read_text("utf-8"), (ROOT / "config.yaml").read_text("utf-8")
    assert shipped_names()
    for name in shipped_names():
        assert f"| `{name}` |" in readme
        assert f"- name: {name}\n" in config


def test_the_sdk_imports_without_engine_and_workers():
    program = (
        "import sys\n"
        "for name in ('linkly_engine', 'linkly_workers'): sys.modules[name] = None\n"
        "import linkly, linkly.client, linkly.iii, linkly.testing\n"
    )
    subprocess.run(
        [sys.executable, "-c", program], check=True, env={"PYTHONPATH": str(ROOT / "sdk"), "PATH": "/usr/bin:/bin"}
    )


def test_every_dependency_states_its_reason():
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    project = tomllib.loads(text)["project"]
    for wanted in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        name = re.split(r"[\[><=;]", wanted)[0]
        line = next(line for line in text.splitlines() if line.strip().startswith(f'"{name}'))
        assert "# " in line, f"{name} has no reason beside it"


def test_the_versions_agree():
    from linkly import __version__ as sdk
    from linkly_engine import __version__ as engine

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert sdk == engine == project
    assert f"## [{project}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")
