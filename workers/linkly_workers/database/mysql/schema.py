"""What tables there are and what is in them, asked of `information_schema`; and plans, as lists of steps."""

from __future__ import annotations

import json
from typing import Any

from linkly_workers.database.backend import Rows

_KINDS = {"BASE TABLE": "table", "SYSTEM VERSIONED": "table", "VIEW": "view"}
_TABLES = """
SELECT table_name, table_type FROM information_schema.tables
WHERE table_schema = DATABASE() AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED', 'VIEW')"""
_NAMES_FOLD = "SELECT @@lower_case_table_names <> 0"
# A default is SQL, as SQLite and PostgreSQL show it. MariaDB does so; MySQL shows the value of what is no expression.
_COLUMNS = """
SELECT column_name, column_type, is_nullable = 'YES', COALESCE(generation_expression, '') <> '',
  CASE WHEN column_default IS NULL OR (VERSION() LIKE '%MariaDB%' AND column_default = 'NULL') THEN NULL
    WHEN VERSION() LIKE '%MariaDB%' OR extra LIKE '%DEFAULT_GENERATED%' OR numeric_precision IS NOT NULL
    THEN column_default ELSE QUOTE(column_default) END
FROM information_schema.columns WHERE table_schema = DATABASE() AND BINARY table_name = ? ORDER BY ordinal_position"""
_FOREIGN_KEYS = """
SELECT k.constraint_name, IF(k.referenced_table_schema = DATABASE(), k.referenced_table_name,
  CONCAT(k.referenced_table_schema, '.', k.referenced_table_name)),
  r.update_rule, r.delete_rule, k.column_name, k.referenced_column_name
FROM information_schema.key_column_usage k JOIN information_schema.referential_constraints r
  ON r.constraint_schema = k.constraint_schema AND r.table_name = k.table_name AND r.constraint_name = k.constraint_name
WHERE k.table_schema = DATABASE() AND BINARY k.table_name = ? AND k.referenced_table_name IS NOT NULL
ORDER BY k.constraint_name, k.ordinal_position"""
_NON_UNIQUE, _INDEX, _COLUMN, _EXPRESSION = 1, 2, 4, 14
"""Places in a row of SHOW INDEX; MariaDB has no expressions there."""


async def tables(rows: Rows) -> list[tuple[str, str]]:
    """Return name and kind of the tables and views of the database, by name."""
    return sorted((name, _KINDS[kind]) for name, kind in await rows(_TABLES))


async def describe(rows: Rows, table: str) -> dict[str, Any] | None:
    """Describe a table, whose name has the case that the server distinguishes; `None`: there is none."""
    listed = await tables(rows)
    found = [each for each in listed if each[0] == table]
    if not found and (await rows(_NAMES_FOLD))[0][0]:
        found = [each for each in listed if each[0].lower() == table.lower()]
    if not found:
        return None
    name, kind = found[0]
    indexes = await _indexes(rows, name)
    primary_key: list[str] = next((index["columns"] for index in indexes if index["primary_key"]), [])
    return {
        "name": name,
        "type": kind,
        "columns": [
            {
                "name": column,
                "type": declared,
                "nullable": bool(nullable),
                "default": None if generated else default,
                "primary_key": column in primary_key,
                "generated": bool(generated),
            }
            for column, declared, nullable, generated, default in await rows(_COLUMNS, name)
        ],
        "primary_key": primary_key,
        "indexes": indexes,
        "foreign_keys": await _foreign_keys(rows, name),
    }


async def _indexes(rows: Rows, table: str) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for row in await rows(f"SHOW INDEX FROM `{table.replace('`', '``')}`"):
        name = row[_INDEX]
        index = found.setdefault(
            name,
            {
                "name": name,
                "columns": [],
                "unique": not row[_NON_UNIQUE],
                "partial": False,
                "primary_key": name == "PRIMARY",
            },
        )
        index["columns"].append(row[_EXPRESSION] if row[_COLUMN] is None else row[_COLUMN])
    return list(found.values())


async def _foreign_keys(rows: Rows, table: str) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, other, on_update, on_delete, column, theirs in await rows(_FOREIGN_KEYS, table):
        key = found.setdefault(
            name,
            {"table": other, "columns": [], "references": [], "on_update": on_update, "on_delete": on_delete},
        )
        key["columns"].append(column)
        key["references"].append(theirs)
    return list(found.values())


# --- plans ----------------------------------------------------------------------------------------------------

_TOLD = ("sort_key", "buffer_type", "attached_condition", "having_condition")
"""What a step says of itself, beside what it is."""
_NO_STEP = frozenset(("cost_info", "query_optimization"))


def explaining(sql: str) -> str:
    """Return the statement that asks for a plan."""
    return f"EXPLAIN FORMAT=JSON {sql}"


def steps(plan: str | dict[str, Any]) -> list[dict[str, Any]]:
    """Return the steps of what `explaining` answers; the step above stands before those that it is made of."""
    found: list[dict[str, Any]] = []

    def walk(node: dict[str, Any], parent: int) -> None:
        for key, value in node.items():
            if key in _NO_STEP:
                continue
            if isinstance(value, dict):
                walk(value, add(key, value, parent))
            elif isinstance(value, list) and value and isinstance(value[0], dict):
                number = add(key, {}, parent)
                for each in value:
                    walk(each, number)

    def add(key: str, node: dict[str, Any], parent: int) -> int:
        found.append({"id": len(found) + 1, "parent": parent, "detail": _detail(key, node)})
        return len(found)

    walk(json.loads(plan) if isinstance(plan, str) else plan, 0)
    return found


def _detail(key: str, node: dict[str, Any]) -> str:
    words = key.replace("_", " ")
    if "table_name" in node:
        words = f"{node.get('access_type', words)} on {node['table_name']}"
        if "key" in node:
            words = f"{node.get('access_type', key)} using {node['key']} on {node['table_name']}"
    elif "select_id" in node:
        words = f"select {node['select_id']}"
    elif "message" in node:
        words = str(node["message"])
    for name in _TOLD:
        if name in node:
            words += f", {name.replace('_', ' ').replace('attached ', '')} {node[name]}"
    rows = node.get("rows", node.get("rows_examined_per_scan"))
    return words if rows is None else f"{words} (rows {rows})"
