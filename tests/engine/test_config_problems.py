"""Every error of a config file is told at once, at the line of its key, and by `linkly check` as by the engine."""

import pytest

from linkly.errors import ConfigError
from linkly_engine.process.manifest import parse_manifest
from linkly_engine.project.config import parse
from linkly_engine.project.loader import read
from linkly_engine.yaml.tree import CHARACTERS_LIMIT, VALUES_LIMIT


def problems(folder, text):
    """Return line and path of everything that is wrong with a project."""
    file = folder / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read(file)
    found = caught.value.details["problems"]
    assert caught.value.message.splitlines() == [problem["message"] for problem in found]
    assert all(problem["message"].startswith(f"{file}:{problem['line']}: ") for problem in found)
    return [(problem["line"], problem["path"]) for problem in found]


def bomb(key, alias, lines=9):
    rows = [f"{key}0: &a0 {alias.format('x', 'x')}"]
    rows += [f"{key}{n}: &a{n} {alias.format(*[f'*a{n - 1}'] * 2)}" for n in range(1, lines)]
    return "\n".join(rows) + "\n"


def test_all_errors_of_a_file_are_told_in_the_order_of_their_lines(tmp_path):
    text = """\
workers:
  - name: http
    config:
      port: high
      prot: 1
      cors:
        allowed_origin: x
  - name: database
    config:
      databases:
        primary:
          url: mongo://x
        second:
          url: sqlite:a.db
          pool: {max: 0}
  - name: stat
  - confg: {}
    name: state
  - name: iii-worker-manager
    config:
      port: 70000
      prt: 1
  - path: ./nowhere
  - name: link
    config:
      own_hosts: ["://"]
registration_namespace_grace_ms: -1
wokers: []
"""
    assert problems(tmp_path, text) == [
        (4, "$.workers[0].config.port"),
        (5, "$.workers[0].config.prot"),
        (7, "$.workers[0].config.cors.allowed_origin"),
        (12, "$.workers[1].config.databases.primary.url"),
        (15, "$.workers[1].config.databases.second.pool.max"),
        (16, "$.workers[2].name"),
        (17, "$.workers[3].confg"),
        (22, "$.workers[4].config.prt"),
        (23, "$.workers[5].path"),
        (26, "$.workers[6].config.own_hosts"),
        (27, "$.registration_namespace_grace_ms"),
        (28, "$.wokers"),
    ]


def test_a_port_that_a_listener_cannot_have_is_told_at_its_line(tmp_path):
    text = "workers:\n  - name: iii-worker-manager\n    config:\n      handshake_timeout_ms: 0\n      port: 70000\n"
    assert problems(tmp_path, text) == [
        (4, "$.workers[0].config.handshake_timeout_ms"),
        (5, "$.workers[0].config.port"),
    ]


def test_keys_that_stand_twice_are_told_with_everything_else(tmp_path):
    text = "workers:\n  - name: state\n    name: http\n  - name: database\n    config: {a: 1, a: 2}\n"
    assert problems(tmp_path, text) == [
        (3, "$.workers[0].name"),
        (5, "$.workers[1].config.a"),
        (5, "$.workers[1].config.a"),
    ]


def test_every_variable_that_is_not_set_is_told_once_with_everything_else(tmp_path):
    text = """\
workers:
  - name: http
    config: {host: "${NO_SUCH_HOST}", port: ${NO_SUCH_PORT}}
  - name: ${NO_SUCH_NAME}
  - nme: x
registration_namespace_grace_ms: ${NO_SUCH_TIME}
"""
    assert problems(tmp_path, text) == [
        (3, "$.workers[0].config.host"),
        (3, "$.workers[0].config.port"),
        (4, "$.workers[1].name"),
        (5, "$.workers[2].nme"),
        (6, "$.registration_namespace_grace_ms"),
    ]


@pytest.mark.parametrize(
    "text, said",
    [
        ("workers:\n  - name: \0\n", "f:2: not valid YAML: unacceptable character #x0000"),
        (
            "workers: []\n---\na: 1\n",
            "f:2: not valid YAML: expected a single document in the stream, but found another",
        ),
        (
            "workers:\n\t- name: state\n",
            "f:2: not valid YAML: found character '\\t' that cannot start any token; YAML is",
        ),
        ("workers:\n  - name: state\n   config: {}\n", "f:3: not valid YAML: expected <block end>, but found"),
        ("workers:\n  - name: a: b\n", "f:2: not valid YAML: mapping values are not allowed here; a text with `: `"),
        ("workers:\n  - name: http\n    config\n", "f:4: not valid YAML: could not find expected ':'; a key needs"),
        ("workers: " + "[" * 1000, "f: lists and mappings stand too deep in each other"),
        ("workers:\n  - {config: {},\n     name: " + "9" * 5000 + "}\n", None),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(text, said):
    if said is None:  # digits without end are text, and their place is told by whoever wants a number
        assert parse(text, "f", {}).workers[0].name == "9" * 5000
        return
    with pytest.raises(ConfigError) as caught:
        parse(text, "f", {})
    assert caught.value.message.startswith(said)
    assert "\n" not in caught.value.message


def test_two_workers_with_the_same_functions_are_refused_before_a_start(tmp_path):
    assert problems(tmp_path, "workers:\n  - name: state\n  - name: http\n  - name: state\n") == [(4, "$.workers[2]")]


def test_two_worker_ports_at_one_address_are_refused(tmp_path):
    listener = "  - name: iii-worker-manager\n    config: {port: 4000}\n"
    assert problems(tmp_path, f"workers:\n{listener}{listener}") == [(4, "$.workers[1]")]


def test_a_network_that_is_none_is_refused_before_the_gateway_starts(tmp_path):
    text = "workers:\n  - name: http\n    config:\n      port: 0\n      trusted_proxies: [10.0.0.1/8]\n"
    assert problems(tmp_path, text) == [(5, "$.workers[0].config.trusted_proxies")]


def test_a_merged_key_is_told_at_the_line_where_it_is_written(tmp_path):
    text = "workers:\n  - name: state\n    config: &c\n      prt: 1\n  - name: http\n    config:\n      <<: *c\n"
    assert problems(tmp_path, text) == [(4, "$.workers[0].config.prt"), (4, "$.workers[1].config.prt")]


@pytest.mark.parametrize(
    "text",
    [
        bomb("k", "[{}, {}]", 40),
        bomb("k", "{{a: {}, b: {}}}", 40),
        "k0: &a0 {x: 1}\n" + "".join(f"k{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 40)),
        f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 200)}]\n",
    ],
    ids=["lists", "mappings", "merges", "texts"],
)
def test_aliases_that_would_grow_without_bound_are_an_error_with_a_line(tmp_path, text):
    with pytest.raises(ConfigError, match=r"config\.yaml:\d+: with its aliases .* fewer aliases") as caught:
        parse(text, "config.yaml", {})
    assert f"{VALUES_LIMIT:,}" in caught.value.message
    with pytest.raises(ConfigError, match="fewer aliases"):
        parse_manifest(text, tmp_path / "iii.worker.yaml")


def test_aliases_that_stay_small_are_understood():
    block = f"&c {{a: {'x' * (CHARACTERS_LIMIT // 10)}}}"
    text = f"workers:\n  - name: state\n    config: {block}\n  - name: http\n    config: *c\n"
    first, second = parse(text, "config.yaml", {}).workers
    assert first.config == second.config
