"""The versions of Python that linkly is promised for are the ones that it is tested with."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = "{}.{}".format(*sys.version_info)


@pytest.fixture
def found(tmp_path):
    """Return what searches for Pythons in the folders given, and nowhere else that depends on the machine's user."""

    def search(*folders, **environment):
        path = os.pathsep.join([*map(str, folders), "/usr/bin", "/bin"])
        variables = {"PATH": path, "HOME": str(tmp_path / "home"), **environment}
        command = [str(ROOT / ".ci" / "pythons")]
        output = subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout
        return dict(line.split(" ", 1) for line in output.splitlines())

    return search


def program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_python_that_does_not_run_is_passed_over(tmp_path, found):
    broken = program(tmp_path / "shims" / f"python{HERE}", "echo 'command not found' >&2; exit 127")
    real = program(tmp_path / "bin" / f"python{HERE}", f'exec "{sys.executable}" "$@"')
    assert found(broken.parent, real.parent)[HERE] == sys.executable


def test_a_python_is_found_where_pyenv_puts_it(tmp_path, found):
    program(tmp_path / "home" / ".pyenv" / "versions" / "3.99.0" / "bin" / "python3", "echo 3.99 there")
    program(tmp_path / "elsewhere" / "versions" / "3.98.0" / "bin" / "python3", "echo 3.98 elsewhere")
    assert found()["3.99"] == "there"
    assert found(PYENV_ROOT=str(tmp_path / "elsewhere"))["3.98"] == "elsewhere"


def test_of_two_pythons_the_first_in_the_path_is_taken(tmp_path, found):
    for folder, name, version in [("a", "python3.97", "3.97"), ("b", "python3.97", "3.97"), ("b", "python3", "3.100")]:
        program(tmp_path / folder / name, f"echo {version} {folder}")
    pythons = found(tmp_path / "a", tmp_path / "b")
    assert pythons["3.97"] == "a"
    assert list(pythons)[-1] == "3.100"


def test_the_readme_names_the_versions_that_the_package_names():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    versions = [each.rpartition(" ")[2] for each in project["classifiers"] if "Python :: 3." in each]
    assert len(versions) >= 3
    sentence = f"CPython {', '.join(versions[:-1])} or {versions[-1]}"
    assert sentence in (ROOT / "README.md").read_text("utf-8")
