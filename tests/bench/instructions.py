"""How many instructions a redirect, a remote call and a trigger take, here and in an earlier commit.

    .ci/instructions [--against REVISION] [--rounds 20]

Counts `instruction_workload.py` under callgrind with linkly of this checkout and of a revision: by default the commit
at which this branch left `origin/main`, or the parent of HEAD on `main` itself. Exits with 1 when a part takes over
`LIMIT` more than there. Instructions repeat where times do not: five runs on a busy machine were within 0.9 %
(redirect) and 0.3 % (the others).

A rise that is meant is said by a trailer of a commit since that revision, with its reason:

    Instructions: redirect +15 % because a click now keeps its country

What cannot be compared passes, and says why: no valgrind, no earlier commit, or one on which the workload does not run.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench.instruction_workload import IN_FLIGHT, MARK, MORE_TRIGGERS, PARTS
from tests.bench.processes import THIS, environment

LIMIT = 0.10
TRAILER = re.compile(rf"({'|'.join(PARTS)})\s+\+(\d+(?:\.\d+)?)\s*%\s+because\s+\S.*")
WAIT_S = 600

Counts = dict[str, float]
"""Instructions of one operation, by part."""


class NotCounted(Exception):
    """The workload did not come to its end; says with what."""


def start(checkout: Path, folder: Path, rounds: int) -> subprocess.Popen[str]:
    """Start the workload under callgrind, with linkly of a checkout."""
    variables = {**environment(checkout), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(
        [
            *("env", *(f"{name}={value}" for name, value in variables.items())),
            *("valgrind", "--tool=callgrind", f"--dump-before={MARK}", f"--callgrind-out-file={folder}/out"),
            *(sys.executable, Path(__file__).with_name("instruction_workload.py"), str(rounds)),
        ],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def ended(run: subprocess.Popen[str], folder: Path, rounds: int) -> Counts:
    """Wait for a run and return what it counted.

    Raises:
        NotCounted: It failed.
    """
    try:
        said, _ = run.communicate(timeout=WAIT_S)
    except subprocess.TimeoutExpired:
        run.kill()
        raise NotCounted(f"no end within {WAIT_S} s") from None
    if run.returncode:
        raise NotCounted(said[-3000:])
    counts: Counts = {}
    for number, part in enumerate(PARTS):
        dump = (folder / f"out.{2 * number + 2}").read_text()  # each mark ends a dump, and a part ends with the second
        operations = rounds * IN_FLIGHT * (MORE_TRIGGERS if part == "trigger" else 1)
        counts[part] = int(dump.rpartition("\ntotals: ")[2].split()[0]) / operations
    return counts


def count(this: Path, other: Path, rounds: int) -> tuple[Counts, Counts | None]:
    """Count two checkouts at the same time; `None` for the other one if it cannot be counted.

    Raises:
        NotCounted: This one cannot be.
    """
    with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as theirs:
        runs = start(this, Path(ours), rounds), start(other, Path(theirs), rounds)
        try:
            here = ended(runs[0], Path(ours), rounds)
            try:
                return here, ended(runs[1], Path(theirs), rounds)
            except NotCounted as error:
                print(error, file=sys.stderr)
                return here, None
        finally:
            for run in runs:
                if run.poll() is None:
                    run.kill()
                    run.wait()


def allowed(trailers: Sequence[str]) -> dict[str, float]:
    """Return by how much each part may rise, as the trailers `Instructions` of commits say.

    Raises:
        SystemExit: One cannot be read.
    """
    rises: dict[str, float] = {}
    for trailer in trailers:
        said = TRAILER.fullmatch(trailer.strip())
        if said is None:
            raise SystemExit(
                f"`Instructions: {trailer}`: expected `PART +N % because ...`, PART one of {', '.join(PARTS)}"
            )
        print(f"said by a commit: {trailer}")
        rises[said[1]] = max(rises.get(said[1], 0), float(said[2]) / 100)
    return rises


def too_many(here: Counts, there: Counts, rises: dict[str, float]) -> list[str]:
    """Print both, and return the parts that have risen by more than they may."""
    print(f"{'instructions':20} {'there':>10} {'here':>10}   here / there")
    found: list[str] = []
    for part in PARTS:
        ratio = here[part] / there[part]
        if ratio > 1 + max(LIMIT, rises.get(part, 0)):
            found.append(part)
        print(f"{part:20} {there[part]:>10,.0f} {here[part]:>10,.0f}   {ratio:.3f}{' too many' * (part in found)}")
    return found


def git(*words: str) -> str:
    """Run git in this checkout; `""` if it fails."""
    run = subprocess.run(["git", "-C", THIS, *words], capture_output=True, text=True)
    return run.stdout.strip() if run.returncode == 0 else ""


def base() -> str:
    """Return the revision to compare with by default; `""`: there is none."""
    head, fork = git("rev-parse", "HEAD"), git("merge-base", "HEAD", "origin/main")
    return fork if fork and fork != head else git("rev-parse", "--verify", "--quiet", "HEAD^")


@contextlib.contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """Check a revision out into a folder of its own, until the block ends."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "tree"
        subprocess.run(["git", "-C", THIS, "worktree", "add", "--quiet", "--detach", folder, revision], check=True)
        try:
            yield folder
        finally:
            subprocess.run(["git", "-C", THIS, "worktree", "remove", "--force", folder], check=True)


def main() -> int:
    """Compare; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", metavar="REVISION", help="a commit, or a folder with another checkout")
    parser.add_argument("--checkout", type=Path, default=THIS, help="what is compared with it; default: this checkout")
    parser.add_argument("--rounds", type=int, default=20, help=f"each of {IN_FLIGHT} redirects, and as many calls")
    asked = parser.parse_args()
    against: str = asked.against or base()
    reason = (
        "valgrind is not installed"
        if shutil.which("valgrind") is None
        else "there is no earlier commit to compare with"
        if not against
        else ""
    )
    if reason:
        print(f"INSTRUCTIONS WERE NOT COUNTED: {reason}")
        return 0
    folder = Path(against)
    with contextlib.nullcontext(folder) if folder.is_dir() else checked_out(against) as other:
        trailers = (
            "" if folder.is_dir() else git("log", "--format=%(trailers:key=Instructions,valueonly)", f"{against}..")
        )
        rises = allowed([line for line in trailers.splitlines() if line.strip()])
        here, there = count(asked.checkout, other, asked.rounds)
    if there is None:
        print(f"INSTRUCTIONS WERE NOT COMPARED: the workload does not run with linkly of {against} (see above)")
        return 0
    found = too_many(here, there, rises)
    if found:
        print(
            f"\n{', '.join(found)}: over {LIMIT:.0%} more instructions than {against}. If that is meant, a commit says "
            "so with a trailer:\n\n    Instructions: PART +N % because ..."
        )
    return 1 if found else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NotCounted as failed:
        sys.exit(f"the workload failed with linkly of this checkout:\n{failed}")
