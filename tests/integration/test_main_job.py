"""The main job, as a stranger does it: shorten, follow, count, kill, and it is all still there."""

import json
import shutil
import signal

import httpx

from support.engine_process import EngineProcess

COUNT = "sql=SELECT COUNT(*) AS clicks FROM clicks WHERE code = 'iii'"


def test_a_link_and_its_clicks_survive_kill_9(linkly):
    linkly.start()
    created = httpx.post(f"{linkly.http}/links", json={"url": "https://iii.dev", "code": "iii"})
    assert (created.status_code, created.json()) == (201, {"code": "iii", "url": "https://iii.dev"})
    assert created.headers["content-type"] == "application/json"
    for _ in range(3):
        followed = httpx.get(f"{linkly.http}/s/iii")
        assert (followed.status_code, followed.headers["location"]) == (302, "https://iii.dev")
        assert followed.headers["cache-control"] == "private, no-store"

    for restarted in (False, True):
        if restarted:
            assert linkly.end(signal.SIGKILL) == -signal.SIGKILL
            linkly.start()
        answer = linkly.trigger("database::query", "db=primary", COUNT)
        assert json.loads(answer.stdout)["rows"] == [{"clicks": 3}]
        assert json.loads(answer.stdout)["row_count"] == 1
        assert httpx.get(f"{linkly.http}/s/none").json() == {"error": "link not found"}
        assert json.loads(linkly.trigger("link::resolve", "code=iii").stdout) == {"url": "https://iii.dev"}
    assert httpx.get(f"{linkly.http}/s/iii").status_code == 302


def test_a_code_of_digits_stays_text_because_the_schema_says_so(linkly):
    linkly.start()
    made = linkly.trigger("link::create", "url=https://example.com", "code=123456")
    assert json.loads(made.stdout) == {"code": "123456", "url": "https://example.com"}
    assert json.loads(linkly.trigger("link::resolve", "code=123456").stdout) == {"url": "https://example.com"}


def test_help_of_a_function_shows_parameters_example_and_result(linkly):
    linkly.start()
    shown = linkly.trigger("database::query", "--help")
    assert shown.returncode == 0
    for part in ("linkly trigger database::query", "sql", "string", "yes", "30000", "Example:", "row_count"):
        assert part in shown.stdout
    missing = linkly.trigger("database::qery", "--help")
    assert missing.returncode == 1
    assert missing.stdout == ""
    assert "database::query" in missing.stderr


def test_results_go_to_stdout_and_everything_else_to_stderr(linkly):
    linkly.start()
    failed = linkly.trigger("link::create", "url=ftp://example.com")
    assert (failed.returncode, failed.stdout) == (1, "")
    body = json.loads(failed.stderr.removeprefix("Error: "))
    assert body["code"] == "INVALID_URL"
    assert body["stacktrace"] is None
    nothing = linkly.trigger("state::get", "scope=a", "key=b")
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (0, "null\n", "")


def test_sigterm_and_sigint_end_it_in_order(linkly):
    for number in (signal.SIGTERM, signal.SIGINT):
        linkly.start()
        linkly.trigger("state::set", "scope=a", "key=b", "value=1")
        assert linkly.end(number) == 0


def test_a_port_in_use_is_one_clear_message(linkly, tmp_path):
    linkly.start()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(linkly.folder / "config.yaml", elsewhere)
    second = EngineProcess(elsewhere).run()
    assert second.returncode == 1
    assert f":{linkly.http_port}" in second.stderr
    assert "Traceback" not in second.stderr
    assert httpx.get(f"{linkly.http}/healthz").status_code == 200


def test_a_project_that_runs_already_is_one_clear_message(linkly):
    linkly.start()
    second = linkly.run()
    assert second.returncode == 1
    assert f"another engine uses {linkly.folder / 'data/iii.db'}" in second.stderr
    assert "Traceback" not in second.stderr
    assert httpx.get(f"{linkly.http}/healthz").status_code == 200


def test_the_welcome_names_workers_functions_and_addresses(linkly):
    linkly.start()
    for part in ("state::set", "database::query", "link::create", linkly.http, str(linkly.worker_port), "try:"):
        assert part in linkly.welcome
