"""Tables, their descriptions and plans of MySQL and MariaDB, in the shapes that all databases have."""

import json

import pytest

from linkly_workers.database.mysql import schema
from support.mysql_session import driver_session


@pytest.fixture(scope="module")
def session(mysql_server):
    with driver_session(mysql_server) as session:
        session.text("CREATE TABLE owners (x INT, y INT, PRIMARY KEY (y, x))")
        session.text(
            "CREATE TABLE `my ``links``?` (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, "
            "name VARCHAR(20) NOT NULL DEFAULT 'it''s', nothing VARCHAR(20), amount INT DEFAULT 5, "
            "at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, made INT AS (amount + 1) STORED, x INT, y INT, "
            "UNIQUE by_name (name, amount), INDEX short (name(3)), "
            "CONSTRAINT owned FOREIGN KEY (y, x) REFERENCES owners (y, x) ON DELETE CASCADE ON UPDATE SET NULL)"
        )
        session.text("CREATE VIEW seen AS SELECT id FROM `my ``links``?`")
        yield session


def described(session, table):
    return session.run(schema.describe(session.asked, table))


def planned(session, sql):
    return schema.steps(session.value(schema.explaining(sql)))


def test_tables_and_views_are_listed_by_name(session):
    assert session.run(schema.tables(session.asked)) == [
        ("my `links`?", "table"),
        ("owners", "table"),
        ("seen", "view"),
    ]


def test_columns_are_described(session):
    columns = described(session, "my `links`?")["columns"]
    assert [(each["name"], each["nullable"], each["primary_key"], each["generated"]) for each in columns] == [
        ("id", False, True, False),
        ("name", False, False, False),
        ("nothing", True, False, False),
        ("amount", True, False, False),
        ("at", True, False, False),
        ("made", True, False, True),
        ("x", True, False, False),
        ("y", True, False, False),
    ]
    assert [each["type"].partition("(")[0] for each in columns[:3]] == ["bigint", "varchar", "varchar"]
    assert columns[0]["type"].endswith("unsigned")
    assert [each["default"] for each in columns[:4]] == [None, "'it''s'", None, "5"]
    assert columns[4]["default"].upper().startswith("CURRENT_TIMESTAMP")
    assert columns[5]["default"] is None


def test_keys_and_indexes_are_described(session):
    found = described(session, "my `links`?")
    assert (found["name"], found["type"], found["primary_key"]) == ("my `links`?", "table", ["id"])
    assert {each["name"]: (each["columns"], each["unique"], each["primary_key"]) for each in found["indexes"]} == {
        "PRIMARY": (["id"], True, True),
        "by_name": (["name", "amount"], True, False),
        "short": (["name"], False, False),
        "owned": (["y", "x"], False, False),
    }
    assert found["foreign_keys"] == [
        {
            "table": "owners",
            "columns": ["y", "x"],
            "references": ["y", "x"],
            "on_update": "SET NULL",
            "on_delete": "CASCADE",
        }
    ]
    assert described(session, "owners")["primary_key"] == ["y", "x"]


def test_a_view_is_described_and_what_is_not_there_is_none(session):
    view = described(session, "seen")
    assert (view["type"], [each["name"] for each in view["columns"]], view["indexes"]) == ("view", ["id"], [])
    for missing in ("missing", "", "owners'", "owners "):
        assert described(session, missing) is None


def test_names_have_the_case_that_the_server_distinguishes(session):
    found = described(session, "OWNERS")
    if session.value("SELECT @@lower_case_table_names"):
        assert found["name"] == "owners"
    else:
        assert found is None


def test_a_plan_is_a_tree_of_steps(session):
    steps = planned(
        session,
        "SELECT * FROM owners JOIN `my ``links``?` l ON l.x = owners.x WHERE owners.y = 3 ORDER BY l.amount LIMIT 1",
    )
    assert [step["id"] for step in steps] == list(range(1, len(steps) + 1))
    assert steps[0] == {"id": 1, "parent": 0, "detail": "select 1"}
    assert all(0 < step["parent"] < step["id"] for step in steps[1:])
    details = " / ".join(step["detail"] for step in steps)
    assert "using PRIMARY on owners" in details
    assert "sort" in details


@pytest.mark.parametrize(
    "sql, words",
    [
        ("SELECT 1", "No tables used"),
        ("DELETE FROM owners WHERE y = 1", "on owners"),
        ("UPDATE owners SET x = 2 WHERE y = 1", "on owners"),
        ("SELECT x FROM owners UNION SELECT 2", "union"),
        ("SELECT 1 FROM owners WHERE x IN (SELECT amount FROM `my ``links``?`)", "my `links`?"),
    ],
)
def test_every_statement_has_steps(session, sql, words):
    assert words in " ".join(step["detail"] for step in planned(session, sql))


def test_a_plan_of_mysql_is_read_as_well():
    """As MySQL 8.4 shows one, which need not be here to test with."""
    table = {
        "table_name": "owners",
        "access_type": "ref",
        "possible_keys": ["PRIMARY"],
        "key": "PRIMARY",
        "rows_examined_per_scan": 1,
        "cost_info": {"read_cost": "0.25"},
        "used_columns": ["x", "y"],
        "attached_condition": "(`a`.`owners`.`x` > 2)",
    }
    block = {
        "select_id": 1,
        "cost_info": {"query_cost": "0.35"},
        "ordering_operation": {"using_filesort": True, "nested_loop": [{"table": table}]},
    }
    for plan in ({"query_block": block}, json.dumps({"query_block": block})):
        assert schema.steps(plan) == [
            {"id": 1, "parent": 0, "detail": "select 1"},
            {"id": 2, "parent": 1, "detail": "ordering operation"},
            {"id": 3, "parent": 2, "detail": "nested loop"},
            {
                "id": 4,
                "parent": 3,
                "detail": "ref using PRIMARY on owners, condition (`a`.`owners`.`x` > 2) (rows 1)",
            },
        ]
