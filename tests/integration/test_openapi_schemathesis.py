"""`/openapi.json` is right about what really happens: schemathesis asks for everything in it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

LIMIT_S = 300
CONFORMANCE = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)

# Random codes and addresses reach refusals only: half of them are replaced with some that mean something.
KNOWN_VALUES = """
import schemathesis
from hypothesis import strategies as st

@schemathesis.hook
def flatmap_path_parameters(context, values):
    codes = {"delete": ["doomed"], "put": ["open"]}.get(context.operation.method, ["open", "used"])
    return st.just(values) | st.sampled_from(codes).map(lambda code: {"code": code})

@schemathesis.hook
def flatmap_body(context, body):
    if not isinstance(body, dict):
        return st.just(body)
    return st.just(body) | st.just({**body, "url": "example.com"}) | st.just({"url": "https://example.com/"})
"""

REFUSALS = {
    "POST /links 400",
    "GET /links 400",
    "GET /links/:code 404",
    "PUT /links/:code 400",
    "DELETE /links/:code 404",
    "GET /links/:code/stats 400",
    "GET /links/:code/stats 404",
    "GET /links/:code/qr 404",
    "GET /s/:code 404",
}
SUCCESSES = {
    "POST /links 201",
    "GET /links 200",
    "GET /links/:code 200",
    "PUT /links/:code 200",
    "DELETE /links/:code 204",
    "GET /links/:code/stats 200",
    "GET /links/:code/qr 200",
    "GET /s/:code 302",
    "GET /s/:code 410",
}


@pytest.fixture
def shop(linkly):
    """Return the address of a running shortener with some links."""
    linkly.start()
    with httpx.Client(base_url=linkly.http) as client:
        for code, limits in {"open": {}, "used": {"max_clicks": 1}, "doomed": {}}.items():
            made = client.post("/links", json={"url": "https://example.com", "code": code, **limits})
            assert made.status_code == 201
        assert client.get("/s/used").status_code == 302
    return linkly.http


def schemathesis(
    folder: Path, document: str, *options: str, hooks: str = ""
) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """Run it; return how it ended and what it saw, for example `GET /links 200`."""
    log = folder / "seen.har"
    (folder / "known_values.py").write_text(hooks)
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "run",
        document,
        "--seed",
        os.environ.get("SEED", "1"),
        "--no-color",
    ]
    run = subprocess.run(
        [*command, "--report", "har", "--report-har-path", str(log), *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "SCHEMATHESIS_HOOKS": "known_values"},
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    seen: set[str] = set()
    for entry in json.loads(log.read_text())["log"]["entries"]:
        segments = urlsplit(entry["request"]["url"]).path.split("/")
        segments[2:3] = [":code"] * len(segments[2:3])
        seen.add(f"{entry['request']['method']} {'/'.join(segments)} {entry['response']['status']}")
    return run, seen


def test_random_requests_get_what_the_document_says(shop, tmp_path):
    # All checks but one: a schema cannot say which texts are URLs, so that some valid data is refused.
    run, seen = schemathesis(
        tmp_path,
        f"{shop}/openapi.json",
        *("--checks", "all", "--exclude-checks", "positive_data_acceptance"),
        *("--max-examples", "15", "--phases", "coverage,fuzzing,stateful"),
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert seen >= REFUSALS


def test_requests_that_succeed_get_what_the_document_says(shop, tmp_path):
    run, seen = schemathesis(
        tmp_path,
        f"{shop}/openapi.json",
        *("--checks", ",".join(CONFORMANCE)),
        *("--max-examples", "30", "--phases", "fuzzing"),
        hooks=KNOWN_VALUES,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert seen >= SUCCESSES


def test_an_answer_that_the_document_leaves_out_is_found(shop, tmp_path):
    document = httpx.get(f"{shop}/openapi.json").json()
    del document["paths"]["/links/{code}"]["get"]["responses"]["404"]
    (tmp_path / "wrong.json").write_text(json.dumps(document))
    run, seen = schemathesis(
        tmp_path,
        "wrong.json",
        *("--url", shop, "--checks", "response_schema_conformance", "--include-operation-id", "link_http_get"),
        *("--max-examples", "5", "--phases", "fuzzing"),
    )
    assert "GET /links/:code 404" in seen
    assert run.returncode == 1
    assert "Response violates schema" in run.stdout
