"""`linkly worker logs` reads the files that the engine writes."""

import subprocess
import sys

import pytest

TIME_S = 20


@pytest.fixture
def logs(folder):
    (folder / "config.yaml").write_text("workers: [{name: state}, {name: greeter, path: ./greeter}]\n")
    place = folder / ".linkly/logs/greeter"
    place.mkdir(parents=True)
    (place / "stdout.log.1").write_text("one\ntwo\n")
    (place / "stdout.log").write_text("three\n\x1b[31mfo\tur\x1b[0m\u202e\x07\n")
    (place / "stderr.log").write_text("bad\n")
    return place


def test_the_last_lines_come_from_files_put_away_too(logs, linkly):
    code, out, err = linkly("worker", "logs", "greeter", "-n", "3")
    assert (code, out, err) == (0, "two\nthree\nfo\tur\n", "bad\n")


def test_a_worker_without_logs_and_one_that_is_not_there(logs, linkly):
    code, out, err = linkly("worker", "logs", "state")
    assert (code, out) == (0, "")
    assert "engine's own output" in err
    code, _, err = linkly("worker", "logs", "queue")
    assert code == 1
    assert "there: state, greeter" in err
    for each in logs.iterdir():
        each.unlink()
    logs.rmdir()
    code, _, err = linkly("worker", "logs", "greeter")
    assert code == 0
    assert "No logs available for greeter yet" in err


def test_following_goes_on_when_a_file_is_put_away(logs):
    words = [sys.executable, "-m", "linkly_engine", "worker", "logs", "greeter", "-f", "-n", "1"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "fo\tur\n"
        with (logs / "stdout.log").open("a") as file:
            file.write("five\nsi")
            file.flush()
            assert process.stdout.readline() == "five\n"
            file.write("x\nseven\n")
        (logs / "stdout.log").rename(logs / "stdout.log.1")
        (logs / "stdout.log").write_text("eight\n")
        assert [process.stdout.readline() for _ in range(3)] == ["six\n", "seven\n", "eight\n"]
    finally:
        process.terminate()
        process.communicate(timeout=TIME_S)
