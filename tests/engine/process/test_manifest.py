"""Manifests: what is understood, what is refused, and where an error says it is."""

import pytest

from linkly.errors import ConfigError
from linkly_engine.process.manifest import read_manifest


def read(folder, text, name="iii.worker.yaml"):
    (folder / name).write_text(text)
    return read_manifest(folder)


def refusal(folder, text):
    with pytest.raises(ConfigError) as caught:
        read(folder, text)
    return caught.value.message


def test_every_key_of_a_manifest_is_accepted(tmp_path):
    manifest = read(
        tmp_path,
        "iii: v1\nname: link\ndescription: Short links\nlanguage: typescript\n"
        "runtime: {base_image: docker.io/iiidev/node:latest, kind: node, package_manager: npm, entry: a, language: b}\n"
        "scripts: {setup: apt, install: npm install, start: npm run start}\n"
        "env: {A: text, B: 3, C: true, D: 1.5}\n"
        "dependencies: {http: ^0.21.3}\nresources: {cpus: 1.5, memory: 512}\nwatch: self\n"
        "deploy: {x: 1}\nmanifest: m\ntags: [a]\nconfig: {y: 2}\nentry: z\n",
    )
    assert (manifest.name, manifest.setup, manifest.install, manifest.start) == (
        "link",
        "apt",
        "npm install",
        "npm run start",
    )
    assert manifest.env == {"A": "text", "B": "3", "C": "true", "D": "1.5"}
    assert manifest.watches_itself


def test_linkly_s_own_name_of_the_file_comes_first(tmp_path):
    read(tmp_path, "name: iii\nscripts: {start: a}\n")
    assert read(tmp_path, "name: own\nscripts: {start: a}\n", "linkly.worker.yaml").name == "own"


@pytest.mark.parametrize(
    "text, where, what",
    [
        ("name: a\nscripts:\n  start: x\n  strat: y\n", "iii.worker.yaml:4: $.scripts.strat", "unknown key"),
        ("name: a\nscripts: {start: x}\nnamespace: b\n", "iii.worker.yaml:3: $.namespace", "unknown key"),
        ("name: a\nscripts:\n  start: [x]\n", "iii.worker.yaml:3: $.scripts.start", "expected text, got a list"),
        ("name: a\nscripts: {start: ''}\n", "iii.worker.yaml:2: $.scripts.start", "empty"),
        ("name: a\nscripts: {install: x}\n", "iii.worker.yaml:2: $.scripts", "start"),
        ("name: a\n", "iii.worker.yaml:1: $", "npm run start"),
        ("scripts: {start: x}\n", "iii.worker.yaml:1: $", "name"),
        ("name: ../up\nscripts: {start: x}\n", "iii.worker.yaml:1: $.name", "`../up`"),
        ("name: .a\nscripts: {start: x}\n", "iii.worker.yaml:1: $.name", "`.a`"),
        ("name: 5\nscripts: {start: x}\n", "iii.worker.yaml:1: $.name", "got 5"),
        ("name: a\nscripts: {start: x}\nenv:\n  A: [1]\n", "iii.worker.yaml:4: $.env.A", "a list"),
        ("name: a\nscripts: {start: x}\nresources: {cpus: two}\n", "iii.worker.yaml:3: $.resources.cpus", "'two'"),
        ("name: a\nscripts: {start: x}\nresources: {memory: 0.5}\n", "iii.worker.yaml:3: $.resources.memory", "whole"),
        ("name: a\nruntime: {image: x}\nscripts: {start: x}\n", "iii.worker.yaml:2: $.runtime.image", "base_image"),
        ("name: a\nwatch: me\nscripts: {start: x}\n", "iii.worker.yaml:2: $.watch", "`engine` and `self`"),
        ("- a\n", "iii.worker.yaml:1: $", "a list"),
        ("", "iii.worker.yaml: $", "name"),
        ("name: [a\n", "iii.worker.yaml:2", "not valid YAML"),
    ],
)
def test_an_error_names_file_line_and_path(tmp_path, text, where, what):
    message = refusal(tmp_path, text)
    assert where in message
    assert what in message


def test_a_folder_without_a_manifest_says_how_to_make_one(tmp_path):
    with pytest.raises(ConfigError, match="linkly worker init"):
        read_manifest(tmp_path)
    with pytest.raises(ConfigError, match="no such folder"):
        read_manifest(tmp_path / "nowhere")
