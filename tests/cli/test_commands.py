"""Every command: its help has an example, its usage errors exit with 2, and `trigger` imports none of them."""

import subprocess
import sys

import click
import pytest

from linkly_engine.cli.commands import linkly as root
from linkly_engine.cli.completion import FILES, SPECIFICATION


def walk(command, path=()):
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from walk(below, (*path, name))


EVERY = list(walk(root))


@pytest.mark.parametrize("path", [path for path, _ in EVERY if path], ids=" ".join)
def test_the_help_of_every_command_has_an_example(path, linkly):
    code, out, err = linkly(*path, "--help")
    assert (code, err) == (0, "")
    assert "Example:\n  " in out
    assert f"linkly {' '.join(path)}" in out.partition("Example:")[2]


def test_trigger_and_the_engine_have_examples_too(linkly):
    assert "Example:" in linkly("--help")[1]
    assert "Example:" in linkly("trigger", "--help")[1]


@pytest.mark.parametrize(
    "words",
    [["worker"], ["worker", "nonsense"], ["worker", "add"], ["check", "x"], ["worker", "init", "x"], ["project"]],
)
def test_wrong_usage_exits_with_2(words, folder, linkly):
    code, out, err = linkly(*words)
    assert (code, out) == (2, "")
    assert "Usage: linkly" in err


def test_completion_knows_the_commands_and_options_that_there_are():
    for path, command in EVERY:
        name = " ".join(path)
        if not path:
            continue
        options = {
            option: (FILES if isinstance(each.type, click.Path) else None, each)
            for each in command.get_params(click.Context(command, info_name=name))
            if isinstance(each, click.Option)
            for option in each.opts
        }
        listed, _ = SPECIFICATION[name]
        options |= {"-h": options.get("--help", (None, None)), "--help": options.get("--help", (None, None))}
        assert set(listed) == set(options), name
        for option, (kind, each) in options.items():
            if each is not None and each.is_flag:
                assert listed[option] == "", f"{name} {option} takes no value"
            elif each is not None:
                assert listed[option] == kind if kind else listed[option], f"{name} {option} takes a value"
    assert {name for name in SPECIFICATION if name not in ("", "trigger")} == {" ".join(p) for p, _ in EVERY if p}


@pytest.mark.parametrize("words", [["trigger", "a::b", "--port", "1"], ["__complete", "zsh", "trigger", ""]])
def test_what_has_to_be_quick_imports_nothing_heavy(words, folder):
    program = (
        "import sys\nfrom linkly_engine.cli.main import main\n"
        f"main({words!r})\n"
        "heavy = 'click rich yaml asyncio json re socket msgspec watchfiles typing pathlib encodings.idna'.split()\n"
        "print(sorted(set(heavy) & set(sys.modules)))\n"
    )
    run = [sys.executable, "-S", "-c", program]
    paths = [path for path in sys.path if path]
    shown = subprocess.run(run, capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(paths)})
    assert shown.stdout.splitlines()[-1] == "[]"


def test_commands_import_no_websocket(folder):
    program = "import sys, linkly_engine.cli.commands\nprint('picows' in sys.modules)\n"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout == "False\n"


def test_the_engine_imports_neither_click_nor_rich(folder):
    program = "import sys, linkly_engine.cli.serve\nprint(sorted({'click', 'rich', 'watchfiles'} & set(sys.modules)))\n"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
