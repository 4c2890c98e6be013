"""`linkly database migrate`: a folder's files, a running engine, a line for each file that was run."""

import json

import pytest

CONFIG = """
workers:
  - name: iii-worker-manager
    config: {port: 0}
  - name: database
    config: {databases: {primary: {url: "sqlite:./a.db"}, other: {url: "sqlite:./b.db"}}}
"""
FILES = {
    "0001_notes.sql": "CREATE TABLE notes (text TEXT);\n",
    "0002_first.sql": "INSERT INTO notes VALUES ('ü;');\n",
    "README.md": "No SQL.",
}


@pytest.fixture
def project(folder):
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "db").mkdir()
    for name, text in FILES.items():
        (folder / "db" / name).write_text(text)
    return folder


def test_a_folder_is_applied_file_by_file_and_once(project, engine, linkly):
    code, out, err = linkly("database", "migrate", "db", "--dry-run")
    assert (code, out) == (0, "0001_notes.sql\n0002_first.sql\n")
    assert "db: 2 of 2 files to run on primary (sqlite:" in err
    code, out, err = linkly("database", "migrate", "db")
    assert (code, out) == (0, "")
    assert [line.split(" (")[0] for line in err.splitlines()[1:]] == ["✓ 0001_notes.sql", "✓ 0002_first.sql"]
    assert "db: 0 of 2 files to run" in linkly("database", "migrate", "db")[2]
    assert "0 of 2" in linkly("database", "migrate", "db", "--db", "primary")[2]
    shown = json.loads(linkly("database", "migrate", "db", "--db", "other", "--json")[1])
    assert (shown["db"], shown["pending"]) == ("other", [])
    assert [each["name"] for each in shown["applied"]] == ["0001_notes.sql", "0002_first.sql"]
    rows = json.loads(linkly("trigger", "database::query", "db=other", "sql=SELECT * FROM notes")[1])["rows"]
    assert rows == [{"text": "ü;"}]


def test_what_fails_is_told_in_one_line_behind_what_was_done(project, engine, linkly):
    (project / "db/0003_wrong.sql").write_text("\nINSERT INTO missing VALUES (1);")
    code, out, err = linkly("database", "migrate", "db")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == "Error: 0003_wrong.sql, line 2: no such table: missing"
    assert "✓ 0002_first.sql" in err
    (project / "db/0003_wrong.sql").unlink()
    (project / "db/0002_first.sql").write_text("DELETE FROM notes;")
    code, _, err = linkly("database", "migrate", "db", "--dry-run")
    assert code == 1
    assert err.startswith("Error: `0002_first.sql` was edited after it was applied")
    assert linkly("database", "migrate", "db", "--db", "none")[2].startswith("Error: there is no database `none`")


def test_without_files_or_an_engine_the_command_says_what_is_missing(project, linkly):
    assert linkly("database", "migrate", "nowhere")[::2] == (1, "Error: there is no folder nowhere\n")
    (project / "empty").mkdir()
    assert linkly("database", "migrate", "empty")[::2] == (1, "Error: there is no .sql file in empty\n")
    (project / "empty/0001_latin.sql").write_bytes(b"-- \xe4")
    assert "0001_latin.sql is no UTF-8" in linkly("database", "migrate", "empty")[2]
    code, _, err = linkly("database", "migrate", "db")
    assert code == 1
    assert "no engine at localhost:1" in err
