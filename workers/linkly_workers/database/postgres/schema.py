"""What tables there are and what is in them, asked of PostgreSQL's catalog; and plans, as lists of steps."""

from __future__ import annotations

from typing import Any

from linkly_workers.database.backend import Rows

_KINDS = {"r": "table", "p": "table", "v": "view", "m": "materialized view", "f": "foreign table"}
_NAME = "CASE WHEN pg_table_is_visible(c.oid) THEN c.relname::text ELSE n.nspname || '.' || c.relname END"
_TABLES = f"""
SELECT {_NAME}, c.relkind::text, c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_t%'"""  # noqa: S608
_NAMED = "SELECT to_regclass($1)::oid"
_COLUMNS = """
SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid),
  a.attgenerated::text <> '', a.attnum::int
FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"""
_INDEXES = """
SELECT c.relname::text, i.indisunique, i.indpred IS NOT NULL, i.indisprimary,
  ARRAY(SELECT pg_get_indexdef(i.indexrelid, k::int, true) FROM generate_series(1, i.indnkeyatts) k)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = $1 ORDER BY 1"""
_PRIMARY_KEY = """
SELECT a.attname::text FROM pg_constraint k CROSS JOIN unnest(k.conkey) WITH ORDINALITY AS u(number, place)
JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.number
WHERE k.conrelid = $1 AND k.contype = 'p' ORDER BY u.place"""
_FOREIGN_KEYS = f"""
SELECT {_NAME}, k.confupdtype::text, k.confdeltype::text,
  ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(number, place)
    JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.number ORDER BY u.place),
  ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u(number, place)
    JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.number ORDER BY u.place)
FROM pg_constraint k JOIN pg_class c ON c.oid = k.confrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE k.conrelid = $1 AND k.contype = 'f' ORDER BY k.conname"""  # noqa: S608
_ACTIONS = {"a": "NO ACTION", "r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}


async def tables(rows: Rows) -> list[tuple[str, str]]:
    """Return name and kind of the tables, by name; the name has its schema where it has to be written."""
    return sorted((name, _KINDS[kind]) for name, kind, _ in await rows(_TABLES))


async def describe(rows: Rows, table: str) -> dict[str, Any] | None:
    """Describe a table, named as it is listed or as a statement would name it; `None`: there is none."""
    listed = await rows(_TABLES)
    found = [each for each in listed if each[0] == table] or await _as_written(rows, listed, table)
    if not found:
        return None
    name, kind, number = found[0]
    primary_key = [column for (column,) in await rows(_PRIMARY_KEY, number)]
    return {
        "name": name,
        "type": _KINDS[kind],
        "columns": [
            {
                "name": column,
                "type": declared,
                "nullable": not not_null,
                "default": None if generated else default,
                "primary_key": column in primary_key,
                "generated": generated,
            }
            for column, declared, not_null, default, generated, _ in await rows(_COLUMNS, number)
        ],
        "primary_key": primary_key,
        "indexes": [
            {"name": index, "columns": columns, "unique": unique, "partial": partial, "primary_key": primary}
            for index, unique, partial, primary, columns in await rows(_INDEXES, number)
        ],
        "foreign_keys": [
            {
                "table": other,
                "columns": columns,
                "references": theirs,
                "on_update": _ACTIONS[on_update],
                "on_delete": _ACTIONS[on_delete],
            }
            for other, on_update, on_delete, columns, theirs in await rows(_FOREIGN_KEYS, number)
        ],
    }


async def _as_written(rows: Rows, listed: list[tuple[Any, ...]], table: str) -> list[tuple[Any, ...]]:
    if "\0" in table or not table.strip():
        return []
    ((number,),) = await rows(_NAMED, table)
    return [each for each in listed if each[2] == number]


def steps(plans: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the steps of a plan in the order in which `EXPLAIN` shows them."""
    found: list[dict[str, Any]] = []

    def walk(node: dict[str, Any], parent: int) -> None:
        number = len(found) + 1
        found.append({"id": number, "parent": parent, "detail": _detail(node)})
        for each in node.get("Plans", ()):
            walk(each, number)

    for plan in plans:
        if isinstance(plan.get("Plan"), dict):
            walk(plan["Plan"], 0)
    return found


def _detail(node: dict[str, Any]) -> str:
    text = str(node.get("Node Type", "?"))
    if "Index Name" in node:
        text += f" using {node['Index Name']}"
    if "Relation Name" in node:
        text += f" on {node['Relation Name']}"
    for name in ("Index Cond", "Hash Cond", "Merge Cond", "Filter"):
        if name in node:
            text += f", {name.lower()} {node[name]}"
    return f"{text} (cost {node.get('Total Cost')}, rows {node.get('Plan Rows')})"
