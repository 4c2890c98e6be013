"""What an index over clicks costs the click and gains its reader: `click_index.py FOLDER INDEX LINKS CLICKS`.

SQL alone, by link's own scripts: 64 clicks share a transaction with synchronous=FULL. INDEX is `segments` (link's own),
`code` (the one that it had before) or `none`.
"""

import asyncio
import random
import sqlite3
import sys
import time

from turns import serve_turns

from linkly_workers._scripts import dialect
from linkly_workers.link.stores.sql.store import LINKS

AT_ONCE = 64
CHECKPOINT_EVERY = 32
NOW = "2026-01-02T00:00:00.000Z"
SCRIPTS = dialect(LINKS.package, "sqlite")
READER = "FROM segments CROSS JOIN clicks ON clicks.id >> 11 = segments.segment AND clicks.code = ?"


class Clicks:
    """A file with links and clicks, and one index."""

    def __init__(self, file: str, index: str, links: int, clicks: int) -> None:
        self.codes = [f"c{number:06x}" for number in range(links)]
        self.random = random.Random(1)
        self.writer = sqlite3.connect(file, isolation_level=None)
        self.reader = sqlite3.connect(file, isolation_level=None)
        self.writer.execute("PRAGMA journal_mode = WAL")
        for connection in (self.writer, self.reader):
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
        self.run("tables")
        self.run("indexes")
        if index != "segments":
            self.writer.execute("DROP INDEX clicks_by_segment")
        self.writer.execute("BEGIN")
        links_made = ((code, "https://example.com", NOW) for code in self.codes)
        self.writer.executemany("INSERT INTO links (code, url, created_at) VALUES (?, ?, ?)", links_made)
        self.writer.executemany(
            "INSERT INTO clicks (code, clicked_at, visitor) VALUES (?, ?, ?)",
            ((self.random.choice(self.codes), NOW, f"{number:016x}") for number in range(clicks)),
        )
        if index == "code":
            self.writer.execute("CREATE INDEX clicks_by_code ON clicks (code, click_id)")
        self.writer.execute("COMMIT")
        self.checkpoint()
        (stats,) = SCRIPTS["stats"]
        assert READER in stats.sql
        self.stats = stats.sql if index == "segments" else stats.sql.replace(READER, "FROM clicks WHERE code = ?")
        self.stats_names = stats.names

    def run(self, script: str, **values: object) -> None:
        """Run a script."""
        for statement in SCRIPTS[script]:
            asked = statement.using(values)
            self.writer.execute(asked["sql"], asked["params"]).fetchall()

    def checkpoint(self) -> int:
        """Fold the log into the file; return its bytes."""
        pages: int = self.reader.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[1]
        return pages * 4096

    def count(self) -> None:
        """Count clicks on links that are popular alike."""
        codes = [self.random.choice(self.codes) for _ in range(AT_ONCE)]
        links = sorted(set(codes))
        visitors = [f"{self.random.getrandbits(64):016x}" for _ in codes]
        values = {
            "now": NOW, "link": links, "times": [codes.count(code) for code in links],
            "code": codes, "clicked_at": [NOW] * AT_ONCE, "visitor": visitors,
            "referrer": [None] * AT_ONCE, "bot": [0] * AT_ONCE,
        }  # fmt: skip
        self.writer.execute("BEGIN IMMEDIATE")
        self.run("count_many", **values)
        self.writer.execute("COMMIT")

    def read(self) -> None:
        """Read the statistics of a link."""
        values = {"code": self.random.choice(self.codes), "since_day": "2026-01-01", "referrer_limit": 20}
        assert self.reader.execute(self.stats, [values[name] for name in self.stats_names]).fetchone() is not None


async def main(folder: str, index: str, links: int, clicks: int) -> None:
    """Count and read when told to."""
    file = Clicks(f"{folder}/{index}.db", index, links, clicks)

    async def turn(seconds: float) -> dict[str, float]:
        counted = log_bytes = 0
        cost = 0.0
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            before = time.process_time()
            for _ in range(CHECKPOINT_EVERY):
                file.count()
            cost += time.process_time() - before
            counted += CHECKPOINT_EVERY * AT_ONCE
            log_bytes += file.checkpoint()
        before = time.perf_counter()
        file.read()
        reading = time.perf_counter() - before
        return {"CPU us": cost / counted * 1e6, "log bytes": log_bytes / counted, "statistics ms": reading * 1e3}

    await serve_turns(turn)


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
