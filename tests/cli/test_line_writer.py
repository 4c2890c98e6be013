"""The writer behind the engine's stderr: a reader that stalls or leaves stalls nobody else."""

import os
import subprocess
import sys
import threading

from linkly_engine.cli.line_writer import LineWriter

WAIT_S = 10.0


def read_all(descriptor):
    data = b""
    while part := os.read(descriptor, 65536):
        data += part
    return data.decode()


def test_lines_arrive_in_order_and_whole():
    reader, writer_end = os.pipe()
    writer = LineWriter(writer_end)
    got = []
    reading = threading.Thread(target=lambda: got.append(read_all(reader)))
    reading.start()
    lines = [f"{number} {'x' * 100}" for number in range(5000)]
    for line in lines:
        writer.put(line)
    assert writer.flush(WAIT_S)
    writer.close()
    os.close(writer_end)
    reading.join(WAIT_S)
    os.close(reader)
    assert got[0].splitlines() == lines
    assert writer.dropped == 0


def test_a_reader_that_stalls_is_told_what_it_missed():
    reader, writer_end = os.pipe()
    writer = LineWriter(writer_end, max_lines=100)
    for number in range(5000):  # far more than a pipe and the queue hold: `put` must come back
        writer.put(f"{number} {'x' * 1000}")
    assert writer.dropped > 1000
    assert not writer.flush(0.05)
    got = []
    reading = threading.Thread(target=lambda: got.append(read_all(reader)))
    reading.start()
    assert writer.flush(WAIT_S)
    writer.put("after")
    writer.close(WAIT_S)
    os.close(writer_end)
    reading.join(WAIT_S)
    os.close(reader)
    lines = got[0].splitlines()
    assert lines[-1] == "after"
    assert f"{writer.dropped} lines were dropped" in lines
    assert len(lines) == 5000 - writer.dropped + 2


def test_closing_does_not_wait_for_ever_for_a_reader_that_stalls():
    reader, writer_end = os.pipe()
    writer = LineWriter(writer_end)
    writer.put("x" * 1_000_000)
    writer.close(0.05)
    writer.put("too late")
    assert not writer.flush(WAIT_S)  # closed: it is not waited for
    (thread,) = (each for each in threading.enumerate() if each.name == "linkly output")
    os.close(reader)  # its reader is gone: the thread ends
    thread.join(WAIT_S)
    assert not thread.is_alive()
    os.close(writer_end)


def test_a_reader_that_has_left_costs_nothing():
    reader, writer_end = os.pipe()
    os.close(reader)
    writer = LineWriter(writer_end)
    writer.put("nobody reads this")
    assert writer.flush(WAIT_S)
    for _ in range(100):
        writer.put("nor this")
    writer.close()
    os.close(writer_end)


def test_a_descriptor_that_somebody_made_non_blocking_loses_nothing():
    reader, writer_end = os.pipe()
    os.set_blocking(writer_end, False)
    writer = LineWriter(writer_end)
    for number in range(300):
        writer.put(f"{number} {'x' * 1000}")
    got = []
    reading = threading.Thread(target=lambda: got.append(read_all(reader)))
    reading.start()
    assert writer.flush(WAIT_S)
    writer.close()
    os.close(writer_end)
    reading.join(WAIT_S)
    os.close(reader)
    assert len(got[0].splitlines()) == 300


def test_without_a_thread_to_be_had_lines_are_written_all_the_same():
    code = (
        "import resource, sys, threading\n"
        "from linkly_engine.cli.line_writer import LineWriter\n"
        "writer = LineWriter(2)\n"
        "threading.stack_size(256 << 20)\n"
        "pages = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (pages + (64 << 20),) * 2)\n"
        "writer.put('first'); writer.put('second'); writer.close()\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT_S)
    assert (ended.returncode, ended.stderr) == (0, "first\nsecond\n")
