"""What programs write: lines, log files, and a child that writes faster than anybody can read."""

import logging

from linkly_engine.process.log_file import LogFile, tail
from linkly_engine.process.output import Feed, Lines, Output


def test_lines_come_out_whole_however_the_bytes_come_in():
    lines = Lines()
    assert lines.feed("é1\r\nzwei".encode()[:1]) == []
    assert lines.feed("é1\r\nzwei".encode()[1:]) == ["é1"]
    assert lines.feed(b"\n\n") == ["zwei", ""]
    assert lines.feed(b"rest") == []
    assert lines.finish() == ["rest"]
    assert lines.finish() == []


def test_a_line_without_end_is_cut():
    lines = Lines(limit=4)
    assert lines.feed(b"abcdefghij") == ["abcd", "efgh"]
    assert lines.feed(b"kl\nmnopqr\n") == ["ijkl", "mnop", "qr"]


def test_control_characters_are_taken_out_of_the_screen_only(tmp_path, caplog):
    output = Output("painter", tmp_path)
    feed = Feed(output)
    with caplog.at_level(logging.INFO, logger="linkly.worker.painter"):
        feed.feed("stdout", b"\x1b[31mred\x1b[0m\x1b[2K\x07 a\tb\x1b]0;title\x07\rc\xff\n")
        feed.feed("stderr", b"no end")
        feed.finish()
    output.close()
    assert (tmp_path / "stdout.log").read_text() == "\x1b[31mred\x1b[0m a\tbc\ufffd\n"
    assert [(record.getMessage(), record.stream) for record in caplog.records] == [
        ("red a\tbc\ufffd", "stdout"),
        ("no end", "stderr"),
    ]
    assert feed.recent() == ["no end"]
    assert output.tail(5) == (["\x1b[31mred\x1b[0m a\tbc\ufffd"], ["no end"])


def test_log_files_are_rotated_and_bounded(tmp_path):
    log_path = tmp_path / "logs" / "stdout.log"
    log = LogFile(log_path, full_bytes=101, kept=2)
    for number in range(100):
        log.write([f"line {number:04}"])
    log.close()
    files = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert files == ["stdout.log", "stdout.log.1", "stdout.log.2"]
    assert all(path.stat().st_size <= 100 for path in (tmp_path / "logs").iterdir())
    assert tail(log_path, 3) == ["line 0097", "line 0098", "line 0099"]
    assert tail(log_path, 25) == [f"line {number:04}" for number in range(75, 100)]  # over three files
    assert tail(log_path, 1000)[-1] == "line 0099"
    assert tail(log_path, 0) == []


def test_a_log_file_goes_on_where_an_earlier_engine_stopped(tmp_path):
    first = LogFile(tmp_path / "a.log", full_bytes=30)
    first.write(["0123456789"])
    first.close()
    second = LogFile(tmp_path / "a.log", full_bytes=30)
    second.write(["abcdefghij"])
    second.write(["ABCDEFGHIJ"])
    second.close()
    assert (tmp_path / "a.log.1").read_bytes() == b"0123456789\nabcdefghij\n"
    assert tail(tmp_path / "a.log", 2) == ["abcdefghij", "ABCDEFGHIJ"]


def test_a_file_that_cannot_be_written_is_one_warning(tmp_path, caplog):
    (tmp_path / "logs").write_text("in the way")
    log = LogFile(tmp_path / "logs" / "stdout.log")
    log.write(["one"])
    log.write(["two"])
    assert len([record for record in caplog.records if "cannot be written" in record.getMessage()]) == 1


async def test_a_program_that_floods_is_written_down_without_a_gap(children):
    async with children() as run:
        run.manifest("i=0; head -c 3000000 /dev/zero | tr '\\0' 'x' | fold -w 99; echo; echo over; exec sleep 1000")
        child = await run.after_its_word("over")
        assert sum(line == "x" * 99 for line in child.output.tail(100_000)[0]) == 3000000 // 99
