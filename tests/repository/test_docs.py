"""References to docs/ lead somewhere: comments name sections and statements instead of repeating them."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = ["architecture", "database", "protocol", "workers"]
REFERENCE = re.compile(
    r"docs/(?P<file>[\w-]+\.md)(?:#(?P<anchor>[\w-]+)|(?P<names>(?:,? (?:and )?(?:\d+(?:\.\d+)*|C\d\d)(?![\w-]))+))?"
)


@cache
def sources() -> dict[Path, str]:
    """Return the text of every source and document."""
    found: dict[Path, str] = {}
    for top in ("sdk", "engine", "workers", "tests", "examples", "docs"):
        for folder, folders, names in os.walk(ROOT / top):
            folders[:] = [name for name in folders if name != ".clients"]  # packages of others, installed there
            paths = (Path(folder, name) for name in names if name.endswith((".py", ".md", ".sql")))
            found |= {path: path.read_text() for path in paths}
    return found


def test_every_reference_to_the_documentation_names_something_that_is_there():
    dangling: list[str] = []
    for path, source in sources().items():
        for reference in REFERENCE.finditer(source):
            where = f"{path.relative_to(ROOT)}: {reference[0]}"
            text = sources().get(ROOT / "docs" / reference["file"])
            if text is None:
                dangling.append(where)
                continue
            if reference["anchor"] and reference["anchor"] not in anchors(text):
                dangling.append(where)
            for name in re.findall(r"C\d\d|\d+(?:\.\d+)*", reference["names"] or ""):
                found = rf"^\| {name} \|" if name.startswith("C") else rf"^##+ {re.escape(name)}\.? "
                if not re.search(found, text, re.MULTILINE):
                    dangling.append(where)
    assert dangling == []


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", ["workers-data", "workers-edge"])
def test_nothing_refers_to_documents_that_are_not_in_the_repository(name):
    referring = [path for path, text in sources().items() if path != Path(__file__) and f"{name}.md" in text]
    assert referring == []


@pytest.mark.parametrize("document", ["README.md", *(f"docs/{name}.md" for name in DOCUMENTS)])
def test_every_source_file_that_a_document_names_is_there(document):
    names = re.findall(r"`([\w./-]+\.py)`", (ROOT / document).read_text())
    there = [f"/{path.relative_to(ROOT).as_posix()}" for path in sources()]
    assert [name for name in names if not any(path.endswith(f"/{name}") for path in there)] == []


def test_every_statement_of_the_protocol_is_shown_by_a_test_that_names_it():
    rows = re.findall(r"^\| (C\d\d) \| (.+) \|$", (ROOT / "docs/protocol.md").read_text(), re.MULTILINE)
    promised = [name for name, statement in rows if "(later" not in statement]
    tests = "".join(text for path, text in sources().items() if path.is_relative_to(ROOT / "tests"))
    shown = {name.upper() for name in re.findall(r"def test_(c\d\d)_", tests)}
    assert len(promised) > 80
    assert [name for name in promised if name not in shown] == []
