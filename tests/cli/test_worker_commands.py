"""`linkly project` and `linkly worker` where no engine runs."""

import json

import pytest

from linkly_engine.project.config import load

MANIFEST = "name: greeter\nscripts: {start: 'python main.py'}\n"


def program(folder, name="greeter"):
    folder.mkdir(parents=True)
    (folder / "iii.worker.yaml").write_text(MANIFEST.replace("greeter", name))
    return folder


@pytest.mark.parametrize("line", ["name = 'mine'", "name: str = 'mine'"])
def test_a_class_has_its_engine_name_on_the_command_line(folder, linkly, line):
    (folder / "config.yaml").write_text("workers:\n  - module: inner.mine:Mine\n")
    (folder / "inner").mkdir()
    (folder / "inner/mine.py").write_text(f"raise SystemExit('imported')\n\n\nclass Mine(Worker):\n    {line}\n")
    listed = json.loads(linkly("worker", "list", "--json")[1])["workers"]
    assert [row["name"] for row in listed] == ["mine"]
    assert "runs in the engine's process" in linkly("worker", "logs", "mine")[2]
    assert linkly("worker", "remove", "mine", "-y")[0] == 0
    assert load(folder / "config.yaml").workers == []


def test_a_new_project_can_be_used_at_once_and_again(folder, linkly):
    code, out, err = linkly("project", "init", "shop")
    assert (code, out) == (0, "")
    assert "cd shop" in err
    assert ".env" in (folder / "shop/.gitignore").read_text().split()
    config = folder / "shop/config.yaml"
    assert load(config).workers == []
    config.write_text("workers: []  # mine\n")
    code, _, err = linkly("project", "init", "shop")
    assert code == 0
    assert "nothing was changed" in err
    assert config.read_text() == "workers: []  # mine\n"


def test_a_project_from_the_template_runs_the_shortener(folder, linkly):
    assert linkly("project", "init", "shop", "-t", "linkly")[0] == 0
    code, out, _ = linkly("check", "-c", "shop/config.yaml")
    assert (code, out) == (0, "shop/config.yaml: fine, 5 workers\n")


def test_a_folder_with_files_is_left_alone_unless_it_is_meant(folder, linkly):
    (folder / "precious.txt").write_text("x")
    code, _, err = linkly("project", "init")
    assert code == 1
    assert "--allow-non-empty" in err
    assert not (folder / "config.yaml").exists()
    assert linkly("project", "init", "--allow-non-empty")[0] == 0
    assert (folder / "config.yaml").exists()


def test_workers_are_added_with_the_settings_of_the_tutorial(folder, linkly):
    (folder / "config.yaml").write_text("# mine\nworkers: []\n")
    code, out, err = linkly("worker", "add", "http", "state", "database")
    assert (code, out) == (0, "")
    assert "Worker database added to config.yaml" in err
    assert "start it with `linkly`" in err
    assert (folder / "config.yaml").read_text() == (
        "# mine\nworkers:\n  - name: http\n  - name: state\n  - name: database\n    config:\n      databases:\n"
        "        primary:\n          pool:\n            acquire_timeout_ms: 5000\n            idle_timeout_ms: 30000\n"
        "            max: 10\n          url: sqlite:./data/iii.db\n"
    )
    assert linkly("check")[0] == 0


def test_what_is_there_already_is_an_error(folder, linkly):
    (folder / "config.yaml").write_text("workers:\n  - name: iii-state\n")
    code, _, err = linkly("worker", "add", "http", "state")
    assert code == 1
    assert "`state` is in config.yaml already" in err
    assert (folder / "config.yaml").read_text() == "workers:\n  - name: iii-state\n"


def test_force_keeps_settings_and_reset_writes_them_anew(folder, linkly):
    text = "workers:\n  # the database\n  - name: database\n    config: {databases: {}}\n  - name: state\n"
    (folder / "config.yaml").write_text(text)
    assert linkly("worker", "add", "database", "--force")[0] == 0
    assert (folder / "config.yaml").read_text() == text
    assert linkly("worker", "add", "database", "--reset-config")[0] == 0
    changed = (folder / "config.yaml").read_text()
    assert changed.startswith("workers:\n  # the database\n  - name: database\n    config:\n      databases:\n")
    assert changed.endswith("url: sqlite:./data/iii.db\n  - name: state\n")


def test_an_old_name_becomes_the_new_one(folder, linkly):
    (folder / "config.yaml").write_text("workers: []\n")
    code, _, err = linkly("worker", "add", "iii-http")
    assert code == 0
    assert "`iii-http` is the old name of `http`" in err
    assert "- name: http\n" in (folder / "config.yaml").read_text()


def test_a_part_of_the_engine_needs_no_entry(folder, linkly):
    (folder / "config.yaml").write_text("workers: []\n")
    code, _, err = linkly("worker", "add", "iii-observability")
    assert code == 0
    assert "needs no entry" in err
    assert (folder / "config.yaml").read_text() == "workers: []\n"


@pytest.mark.parametrize(
    "word, reason",
    [
        ("stat", "did you mean `state`?"),
        ("ghcr.io/somebody/thing:1", "no container images"),
        ("..x", "there is no such folder"),
        ("-x", "No such option"),
        ("a b", "is no name of a worker"),
        ("./greeter", "there is no such folder"),
        ("here", "write `./here`"),
    ],
)
def test_a_word_that_names_no_worker_is_refused_with_the_way_out(folder, linkly, word, reason):
    (folder / "here").mkdir()
    (folder / "config.yaml").write_text("workers: []\n")
    code, _, err = linkly("worker", "add", "state", word)
    assert code in (1, 2)
    assert reason in err
    assert (folder / "config.yaml").read_text() == "workers: []\n"


def test_a_program_is_added_by_its_folder_as_seen_from_the_file(folder, linkly, monkeypatch):
    program(folder / "shop/programs/greeter")
    program(folder / "elsewhere", "other")
    (folder / "shop/config.yaml").write_text("workers: []\n")
    monkeypatch.chdir(folder / "shop/programs")
    assert linkly("worker", "add", "./greeter", "../../elsewhere", "-c", "../config.yaml")[0] == 0
    assert (folder / "shop/config.yaml").read_text() == (
        "workers:\n  - name: greeter\n    path: ./programs/greeter\n  - name: other\n    path: ../elsewhere\n"
    )
    code, _, err = linkly("worker", "add", str(folder / "elsewhere"), "-c", "../config.yaml")
    assert code == 1
    assert "already" in err
    assert linkly("-c", "../config.yaml", "worker", "remove", "../../elsewhere", "-y")[0] == 0
    assert linkly("-c", "../config.yaml", "worker", "remove", "greeter", "-y")[0] == 0
    assert (folder / "shop/config.yaml").read_text() == "workers: []\n"


def test_a_class_of_ones_own_is_added_by_module(folder, linkly):
    (folder / "config.yaml").write_text("workers: []\n")
    code, _, err = linkly("worker", "add", "no_such_package:Worker")
    assert code == 0
    assert "warning: " in err
    assert "cannot import `no_such_package`" in err
    assert (folder / "config.yaml").read_text() == "workers:\n  - module: no_such_package:Worker\n"


def test_removing_asks_and_without_a_terminal_wants_yes(folder, linkly):
    text = "workers:\n  - name: http\n  # old\n  - name: iii-state  # here\n"
    (folder / "config.yaml").write_text(text)
    code, _, err = linkly("worker", "remove", "state")
    assert code == 1
    assert "-y" in err
    assert (folder / "config.yaml").read_text() == text
    assert linkly("worker", "remove", "state", "-y")[0] == 0
    assert (folder / "config.yaml").read_text() == "workers:\n  - name: http\n"
    code, _, err = linkly("worker", "remove", "state", "-y")
    assert code == 1
    assert "there: http" in err


def test_of_two_with_one_name_the_number_says_which(folder, linkly):
    (folder / "config.yaml").write_text("workers:\n  - name: state # 1\n  - name: state # 2\n")
    code, _, err = linkly("worker", "remove", "state", "-y")
    assert code == 1
    assert "state#1, state#2" in err
    assert linkly("worker", "remove", "state#1", "-y")[0] == 0
    assert (folder / "config.yaml").read_text() == "workers:\n  - name: state # 2\n"


def test_the_list_comes_from_the_file_without_an_engine(folder, linkly):
    (folder / "config.yaml").write_text("workers: [{name: iii-worker-manager}, {name: state}, {path: ./gone}]\n")
    code, out, err = linkly("worker", "list")
    assert code == 0
    assert [line.split()[:3] for line in out.splitlines()[1:]] == [
        ["state", "shipped", "stopped"],
        ["gone", "path", "stopped"],
    ]
    assert "engine not running" in err
    code, out, _ = linkly("worker", "status", "--json")
    listed = json.loads(out)
    assert (code, listed["engine"], [row["name"] for row in listed["workers"]]) == (0, False, ["state", "gone"])
    code, out, _ = linkly("worker", "status", "state")
    assert code == 0
    assert "engine not running" in out
    code, _, err = linkly("worker", "status", "queue")
    assert code == 1
    assert "there: state, gone" in err


@pytest.mark.parametrize("verb", ["start", "stop", "restart"])
def test_what_changes_a_running_worker_needs_the_engine(folder, linkly, verb):
    (folder / "config.yaml").write_text("workers: [{name: state}]\n")
    code, out, err = linkly("worker", verb, "state")
    assert (code, out) == (1, "")
    assert "start it with `linkly`" in err


def test_without_a_config_the_way_out_is_said(folder, linkly):
    for words in (["worker", "add", "state"], ["worker", "list"], ["worker", "logs", "x"]):
        code, _, err = linkly(*words)
        assert code == 1
        assert "linkly project init" in err


def test_the_verdict_of_check(folder, linkly):
    (folder / "config.yaml").write_text("workers:\n  - name: http\n    config: {prot: 1}\n")
    code, out, err = linkly("check")
    assert (code, out) == (1, "")
    assert "config.yaml:3: $.workers[0].config.prot: unknown key" in err
    code, out, _ = linkly("check", "--json")
    assert code == 1
    assert json.loads(out)["ok"] is False
    assert [problem["line"] for problem in json.loads(out)["problems"]] == [3]


def test_check_tells_every_error_on_a_line_of_its_own(folder, linkly):
    (folder / "config.yaml").write_text("workers:\n  - name: http\n    config: {prot: 1}\n  - name: stat\n")
    _, _, err = linkly("check")
    assert [line.split(": ")[1] for line in err.splitlines()] == ["config.yaml:3", "config.yaml:4"]
