"""A file of a migration has happened as a whole and once, or not at all, over kill -9 of the engine that runs it."""

import sqlite3
from collections import Counter

from support.program import Program

FILES = 100
KILLED_AFTER = (5, 20)


def rows(folder):
    """Return how often each number is in the file of the database."""
    connection = sqlite3.connect(folder / "data/iii.db")
    try:
        return Counter(number for (number,) in connection.execute("SELECT number FROM numbers"))
    finally:
        connection.close()


def test_a_killed_engine_leaves_whole_files_and_the_next_one_goes_on(linkly):
    folder = linkly.folder / "db"
    folder.mkdir()
    (folder / "0_numbers.sql").write_text("CREATE TABLE numbers (number INT);")
    for number in range(1, FILES + 1):
        twice = f"INSERT INTO numbers VALUES ({number});\n" * 2
        (folder / f"{number}_insert.sql").write_text(twice)
    applied = 0
    for last in KILLED_AFTER:
        linkly.start()
        words = [*linkly.command, "database", "migrate", "db", "--port", str(linkly.worker_port)]
        command = Program(words, folder=linkly.folder, stream="stderr")
        command.until(f"{last}_insert.sql (")
        linkly.kill()
        assert command.wait() == 1
        done = sum("_insert.sql (" in line for line in command.lines)
        found = rows(linkly.folder)
        # One more may have been committed before its answer was sent.
        assert found in [Counter(2 * list(range(1, applied + done + more + 1))) for more in (0, 1)]
        applied = len(found)
    linkly.start()
    shown = linkly.run("database", "migrate", "db", "--port", str(linkly.worker_port))
    assert shown.returncode == 0, shown.stderr
    assert rows(linkly.folder) == Counter(2 * list(range(1, FILES + 1)))
    assert f"{FILES - applied} of {FILES + 1} files to run" in shown.stderr
