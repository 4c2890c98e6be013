"""The tutorial as a reader goes through it: an empty folder, the command line, an editor, curl.

The worker is written in TypeScript, installed with npm and run by the engine, which picks up what is saved.
"""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import yaml

PROGRAMS = Path(__file__).parents[1] / "programs"
INSTALL_S = 240.0
"""What `worker add ./link` may take: npm asks a registry."""

DATABASE = """\
  - name: database
    config:
      databases:
        primary:
          pool:
            acquire_timeout_ms: 5000
            idle_timeout_ms: 30000
            max: 10
          url: sqlite:./data/iii.db
"""

pytestmark = pytest.mark.compat


@pytest.fixture(scope="module")
def npm(command):
    """Settings that spare the registry; where the Node client could not be installed, neither can the worker be."""
    command("node", "peer")
    quiet = {"npm_config_prefer_offline": "true", "npm_config_audit": "false", "npm_config_fund": "false"}
    return {**quiet, "npm_config_update_notifier": "false"}


def entries(linkly):
    return {entry["name"]: entry for entry in yaml.safe_load((linkly.folder / "config.yaml").read_text())["workers"]}


def choose_ports(linkly):
    """Edit config.yaml as a reader does whose ports are taken."""
    path = linkly.folder / "config.yaml"
    text = path.read_text()
    with_port, found = re.subn(r"(?m)^(\s+port:) 3111\b", rf"\1 {linkly.http_port}", text)
    if not found:
        with_port = re.sub(
            r"(?m)^( *)- name: http$", rf"\1- name: http\n\1  config:\n\1    port: {linkly.http_port}", text
        )
    manager = f"  - name: iii-worker-manager\n    config:\n      port: {linkly.worker_port}\n"
    path.write_text(with_port.rstrip("\n") + "\n" + manager)


def processes_in(folder):
    """Processes that work in a folder; empty where there is no /proc."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(entry / "cwd")).is_relative_to(folder):
                found.append((entry.name, (entry / "cmdline").read_text()))
        except OSError:  # ended meanwhile
            continue
    return found


async def make_the_project(parent, new_project):
    outside = new_project(parent)
    await outside.run("project", "init", "linkly")
    linkly = new_project(parent / "linkly")
    for name in ("http", "state"):
        await linkly.run("worker", "add", name, "--port", str(linkly.worker_port))
    assert {"http", "state"} <= set(entries(linkly))
    before = (linkly.folder / "config.yaml").read_bytes()
    await linkly.run("worker", "init", "link", "--language", "typescript")
    assert (linkly.folder / "config.yaml").read_bytes() == before
    for name in ("iii.worker.yaml", "package.json", "src/index.ts"):
        assert (linkly.folder / "link" / name).is_file()
    choose_ports(linkly)
    return linkly


def save(linkly, program):
    """Save the worker's source as an editor does: write beside, then replace."""
    source = linkly.folder / "link/src/index.ts"
    written = source.with_suffix(".ts.tmp")
    shutil.copy(PROGRAMS / program, written)
    written.replace(source)


async def foundations(linkly):
    await linkly.until_there("link::create", "link::resolve", "http::create_link", "http::redirect")
    await linkly.engine.line(lambda line: "[REGISTERED]" in line and "link::create" in line)
    await linkly.engine.line(lambda line: "Worker registered" in line and "link" in line)
    await linkly.engine.line(lambda line: "link worker ready" in line)
    created = await linkly.trigger("link::create", "url=https://iii.dev", "code=iii")
    assert created == '{\n  "code": "iii",\n  "url": "https://iii.dev"\n}\n'
    assert json.loads(await linkly.trigger("link::resolve", "code=iii")) == {"url": "https://iii.dev"}
    made = await linkly.http.post("/links", json={"url": "https://example.com", "code": "demo"})
    assert (made.status_code, made.text) == (201, '{"code":"demo","url":"https://example.com"}')
    assert (await linkly.http.get("/s/demo")).headers["location"] == "https://example.com"
    missing = await linkly.http.get("/s/missing")
    assert (missing.status_code, missing.json()) == (404, {"error": "link not found"})


async def persist(linkly):
    await linkly.until_there("link::record_click", "link::ready")
    await linkly.until_logged("database: ready")
    await linkly.http.post("/links", json={"url": "https://iii.dev", "code": "counted"})
    for _ in range(3):
        assert (await linkly.http.get("/s/counted")).status_code == 302
    sql = "sql=SELECT COUNT(*) AS clicks FROM clicks WHERE code = 'counted'"
    assert '"clicks": 3' in await linkly.trigger("database::query", "db=primary", sql)
    assert (linkly.folder / "data/iii.db").exists()


async def test_a_reader_gets_from_an_empty_folder_to_counted_clicks(tmp_path, new_project, npm):
    linkly = await make_the_project(tmp_path, new_project)
    linkly.environment = npm
    await linkly.start()
    save(linkly, "link_foundations.ts")
    await linkly.run("worker", "add", "./link", "--port", str(linkly.worker_port), time_out=INSTALL_S)
    assert entries(linkly)["link"]["path"] == "./link"
    await foundations(linkly)
    await linkly.run("worker", "add", "database", "--port", str(linkly.worker_port))
    assert entries(linkly)["database"] == yaml.safe_load(DATABASE)[0]
    save(linkly, "link_persist.ts")
    await persist(linkly)
    row = json.loads(await linkly.trigger("worker::status", "name=link"))
    assert (row["status"], row["kind"], row["running"]) == ("running", "path", True)
    assert row["restarts"] == 1  # for what was saved, and for nothing that npm wrote
    engine, linkly.engine = linkly.engine, None
    assert await engine.ended() == 0
    assert processes_in(linkly.folder) == []
