"""Completion in real shells, with and without an engine."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from linkly_engine.cli.completion import split
from linkly_engine.cli.completion_scripts import SCRIPTS

COMPLETE_BASH = r"""
source <(linkly completion bash)
complete_line() {
    # What bash does at TAB: the line, cut into words at COMP_WORDBREAKS.
    COMP_LINE=$1 COMP_POINT=${#1}
    COMP_WORDS=(linkly) COMP_CWORD=1
    _linkly linkly
    printf '%s\n' "${COMPREPLY[@]}"
}
complete_line "$1"
"""


@pytest.fixture
def command(folder, monkeypatch):
    """`linkly` on PATH."""
    place = folder / ".bin"
    place.mkdir()
    (place / "linkly").write_text(f'#!/bin/sh\nexec {sys.executable} -m linkly_engine "$@"\n')
    (place / "linkly").chmod(0o755)
    monkeypatch.setenv("PATH", str(place), prepend=":")
    return place / "linkly"


def in_bash(line):
    shown = subprocess.run(
        ["bash", "--norc", "-c", COMPLETE_BASH, "bash", line], capture_output=True, text=True, check=True, timeout=30
    )
    assert shown.stderr == ""
    return shown.stdout.split()


def test_commands_options_and_workers_of_the_file(command, folder):
    (folder / "config.yaml").write_text("workers: [{name: state}, {name: 'st$(touch x)'}, {name: http}]\n")
    assert in_bash("linkly work") == ["worker", "workers"]
    assert in_bash("linkly worker re") == ["remove", "restart"]
    assert in_bash("linkly worker add --re") == ["--reset-config"]
    assert in_bash("linkly worker remove st") == ["state"]
    assert in_bash("linkly worker remove state ") == ["http"]
    assert in_bash("linkly worker init x -l ty") == ["typescript"]
    assert in_bash("linkly completion ") == ["bash", "zsh", "fish"]
    assert "state" in in_bash("linkly worker add ")
    assert in_bash("linkly -c config.yaml worker stop h") == ["http"]


def test_it_is_silent_where_there_is_nothing(command):
    assert in_bash("linkly trigger state::") == []
    assert in_bash("linkly worker remove ") == []
    assert in_bash("linkly trigger --port x ") == []


def test_live_function_ids_and_their_parameters(command, engine):
    # bash takes `:` and `=` for ends of words and replaces only what stands behind them.
    assert in_bash("linkly trigger state::se") == ["set"]
    assert in_bash("linkly trigger st")[:2] == ["state::delete", "state::get"]
    assert in_bash("linkly trigger state::list_k") == ["list_keys"]
    assert in_bash("linkly trigger state::set ") == ["scope=", "key=", "value=", "data="]
    assert in_bash("linkly trigger state::set scope=a k") == ["key="]
    assert in_bash("linkly trigger state::set scope=a 'value={\"a b\": 1}' ") == ["key=", "data="]
    assert in_bash("linkly trigger engine::functions::l") == ["list"]
    assert in_bash("linkly trigger engine::functions::list include_internal=t") == ["true"]
    assert in_bash("linkly trigger no::such ") == []


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh: install Debian's package `zsh`")
def test_zsh_takes_the_script(command, engine):
    program = (
        "compdef() { :; }\ncompadd() { shift 3; print -rl -- $@; }\n_describe() { print -rl -- ${(P)2}; }\n"
        "source <(linkly completion zsh)\n"
        "words=(linkly trigger state::se) CURRENT=3 PREFIX=state::se; _linkly\n"
        "words=(linkly trigger state::set sc) CURRENT=4 PREFIX=sc; _linkly\n"
    )
    shown = subprocess.run(["zsh", "-f", "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert shown.stdout.splitlines()[0].startswith("state\\:\\:set:Keep a value")
    assert shown.stdout.splitlines()[1] == "scope="


@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish: install Debian's package `fish`")
def test_fish_takes_the_script(command, engine):
    program = (
        "linkly completion fish | source\ncomplete -C 'linkly trigger state::se'\ncomplete -C 'linkly worker re'\n"
    )
    shown = subprocess.run(
        ["fish", "--no-config", "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    lines = shown.stdout.splitlines()
    assert lines[0].startswith("state::set\tKeep a value")
    assert lines[1:] == ["remove", "restart"]


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_script_is_printed(shell, linkly):
    code, out, err = linkly("completion", shell)
    assert (code, err) == (0, "")
    assert f"__complete {shell}" in out


@pytest.mark.parametrize(
    "line, words",
    [
        ("linkly a b", ["linkly", "a", "b"]),
        ("linkly  a ", ["linkly", "a", ""]),
        (r"linkly a\ b 'c d' \"e", ["linkly", "a b", "c d", '"e']),
        ("linkly 'unfinished x", ["linkly", "unfinished x"]),
        ('linkly "a\\"b" ', ["linkly", 'a"b', ""]),
        ("linkly x='' ", ["linkly", "x=", ""]),
    ],
)
def test_a_line_is_split_as_a_shell_would(line, words):
    assert split(line) == words


def test_a_folder_is_completed_by_the_shell(command):
    program = COMPLETE_BASH.replace("_linkly linkly", "compopt() { echo files; }; _linkly linkly")
    shown = subprocess.run(
        ["bash", "--norc", "-c", program, "bash", "linkly worker add ./"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.split() == ["files"]
    assert Path(command).exists()
