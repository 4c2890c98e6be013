"""References to docs/ lead somewhere: comments name sections and statements instead of repeating them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REFERENCE = re.compile(
    r"docs/(?P<file>[\w-]+\.md)(?:#(?P<anchor>[\w-]+)|(?P<names>(?:,? (?:and )?(?:\d+(?:\.\d+)*|C\d\d)(?![\w-]))+))?"
)


def sources() -> list[Path]:
    folders = ("sdk", "engine", "workers", "tests", "examples", "docs")
    return [
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".md", ".sql") and ".clients" not in path.parts  # packages of others, installed there
    ]


def test_every_reference_to_the_documentation_names_something_that_is_there():
    dangling: list[str] = []
    for path in sources():
        for reference in REFERENCE.finditer(path.read_text()):
            where = f"{path.relative_to(ROOT)}: {reference[0]}"
            target = ROOT / "docs" / reference["file"]
            if not target.exists():
                dangling.append(where)
                continue
            text = target.read_text()
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
    referring = [path for path in sources() if path != Path(__file__) and f"{name}.md" in path.read_text()]
    assert referring == []
