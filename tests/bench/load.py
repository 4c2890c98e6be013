"""Load over HTTP: wrk where it can be had, else a client of ours; the same one for all sides."""

from __future__ import annotations

import http.client
import math
import re
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.bench import peers
from tests.bench.processes import PROGRAMS, cpu_s, measured
from tests.bench.row import Figures

CONNECTIONS = 64
CLIENT_CPU = "client CPU %"
"""The figure that every load over HTTP has."""

UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3}


def client() -> str:
    """Return what loads over HTTP here and, where that is not wrk, why."""
    wrk = peers.wrk()
    return "wrk" if isinstance(wrk, Path) else f"a client of our own, for want of wrk: {wrk}"


@dataclass(frozen=True)
class Load:
    """Requests of one kind to one server.

    Attributes:
        port: Of the server.
        path: What is asked for.
        method: How.
        connections: Kept alive; each has one request under way.
        many: Ask for random ones of so many paths, each `path`, seven digits and `suffix`; only wrk can.
        suffix: The end of each of them.
        exponent: The n-th of them is asked for as often as the first divided by n to this power; 0: all alike.
    """

    port: int
    path: str
    method: str = "GET"
    connections: int = CONNECTIONS
    many: int = 0
    suffix: str = ""
    exponent: float = 0.0

    @property
    def one_path(self) -> str:
        """A path that is asked for."""
        return f"{self.path}{0:07}{self.suffix}" if self.many else self.path

    def check(self, status: int, **headers: str) -> None:
        """Ask once and hold what is answered against what is expected."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(self.method, self.one_path)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        wrong = {name: answer.headers[name] for name, value in headers.items() if answer.headers[name] != value}
        if answer.status != status or wrong:
            raise SystemExit(f"{self.method} {self.path}: {answer.status} {wrong}, not {status} {headers}")

    def put(self, server: int, seconds: float, *, every_answer: bool = False) -> tuple[int, Figures]:
        """Load a server for a while.

        Args:
            server: Its process, whose processor time is measured.
            seconds: How long; wrk takes whole ones.
            every_answer: Wait for the last ones, so that the number is exact.

        Returns:
            How many requests were answered, and the figures.
        """
        wrk = peers.wrk()
        by_wrk = isinstance(wrk, Path) and not every_answer
        if self.many and not by_wrk and not every_answer:
            raise SystemExit(f"only wrk asks for many paths, and there is none: {wrk}")
        before = cpu_s(server)
        count, took, client_s, figures = self._with_wrk(str(wrk), seconds) if by_wrk else self._with_ours(seconds)
        cost = cpu_s(server) - before
        return count, {
            "requests/s": count / took,
            **figures,
            "p99 / p50": figures["p99 ms"] / figures["p50 ms"],
            "CPU us": cost / max(count, 1) * 1e6,
            CLIENT_CPU: client_s / took * 100,
        }

    def _with_wrk(self, wrk: str, seconds: float) -> tuple[int, float, float, Figures]:
        words = [wrk, "--threads=1", f"--connections={self.connections}", f"--duration={math.ceil(seconds)}s"]
        script = PROGRAMS / ("many.lua" if self.many else f"{self.method.lower()}.lua")
        words += ["--latency", "--timeout=30s", f"--script={script}"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        words.append(f"http://127.0.0.1:{self.port}{self.path}")
        if self.many:
            words += ["--", self.path, str(self.many), self.suffix, str(self.exponent)]
        said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if "Non-2xx" in said or "Socket errors" in said:
            raise SystemExit(f"{self.path}: {said}")
        count = re.search(r"(\d+) requests in", said)
        rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
        assert count is not None, said
        assert rate is not None, said
        client_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        figures = {"p50 ms": _latency("50%", said), "p99 ms": _latency("99%", said)}
        return int(count[1]), int(count[1]) / float(rate[1]), client_s, figures

    def _with_ours(self, seconds: float) -> tuple[int, float, float, Figures]:
        with measured(sys.executable, PROGRAMS / "http_load.py", self.port, self.method, self.one_path) as client:
            before = cpu_s(client.pid)
            figures = client.turn(connections=self.connections, seconds=seconds)
            return int(figures.pop("count")), figures.pop("seconds"), cpu_s(client.pid) - before, figures


def _latency(percentile: str, said: str) -> float:
    found = re.search(rf"{percentile}\s+([\d.]+)(us|ms|s|m)", said)
    assert found is not None, said
    return float(found[1]) * UNITS[found[2]]
