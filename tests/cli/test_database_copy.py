"""`linkly database copy`: a running engine copies, a line for each table that is done."""

import json

import pytest

CONFIG = """
workers:
  - name: iii-worker-manager
    config: {port: 0}
  - name: database
    config: {databases: {old: {url: "sqlite:./old.db"}, new: {url: "sqlite:./new.db"}}}
"""
NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) "


@pytest.fixture
def project(folder):
    (folder / "config.yaml").write_text(CONFIG)
    return folder


@pytest.fixture
def query(engine, linkly):
    def ask(db, sql):
        code, out, err = linkly("trigger", "database::query", f"db={db}", f"sql={sql}")
        assert code == 0, err
        return json.loads(out)["rows"]

    return ask


def test_tables_and_rows_are_copied_once(project, engine, linkly, query):
    query("old", "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)")
    query("old", NUMBERS + "INSERT INTO notes SELECT i, 'note ' || i FROM n")
    code, out, err = linkly("database", "copy", "--from", "old", "--to", "new", "--dry-run")
    assert (code, out.splitlines()[1].split()) == (0, ["notes", "10000", "0"])
    assert "CREATE TABLE notes" in out
    ways = ["database", "copy", "--from", "old", "--to", "new"]
    code, out, err = linkly(*ways)
    assert (code, out) == (0, "")
    assert err.splitlines() == [
        "✓ notes (10000 rows)",
        "✓ 1 tables, 10000 rows; both databases have the same number of each",
    ]
    assert query("new", "SELECT * FROM notes") == query("old", "SELECT * FROM notes")
    shown = json.loads(linkly(*ways, "--json")[1])
    assert shown["tables"] == [{"name": "notes", "rows": 10000, "copied": 10000, "made": False}]


def test_what_stands_against_it_is_one_line(project, engine, linkly, query):
    for db in ("old", "new"):
        query(db, "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)")
        query(db, f"INSERT INTO notes VALUES (1, '{db}')")
    code, out, err = linkly("database", "copy", "--from", "old", "--to", "new")
    assert (code, out) == (1, "")
    assert err.startswith("Error: table `notes` of `new` has rows that do not come from `old`; with `replace`")
    assert linkly("database", "copy", "--from", "old", "--to", "new", "--replace", "--table", "notes")[0] == 0
    assert query("new", "SELECT text FROM notes") == [{"text": "old"}]
    assert "there is no database `none`" in linkly("database", "copy", "--from", "none", "--to", "new")[2]
    code, _, err = linkly("database", "copy", "--from", "old")
    assert code == 2
    assert "--to" in err
