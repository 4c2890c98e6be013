"""What tables there are and what is in them, asked of SQLite's table-valued pragmas."""

from __future__ import annotations

from typing import Any

from linkly_workers.database.backend import Rows

_TABLES = (
    "SELECT name, type FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'view', 'virtual') "
    "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
)
_COLUMNS = 'SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?) ORDER BY cid'
_INDEXES = 'SELECT name, "unique", origin, partial FROM pragma_index_list(?) ORDER BY seq'
_INDEX_COLUMNS = "SELECT name FROM pragma_index_info(?) ORDER BY seqno"
_FOREIGN_KEYS = (
    'SELECT id, "table", "from", "to", on_update, on_delete FROM pragma_foreign_key_list(?) ORDER BY id, seq'
)


async def tables(rows: Rows) -> list[tuple[str, str]]:
    """Return name and kind of tables, views and virtual tables, by name."""
    return [(name, kind) for name, kind in await rows(_TABLES)]


async def describe(rows: Rows, table: str) -> dict[str, Any] | None:
    """Describe a table, whose name is compared without case; `None`: there is none."""
    found = [each for each in await tables(rows) if each[0].lower() == table.lower()]
    if not found:
        return None
    name, kind = found[0]
    columns = await rows(_COLUMNS, name)
    indexes = [
        {
            "name": index,
            "columns": [column for (column,) in await rows(_INDEX_COLUMNS, index)],
            "unique": bool(unique),
            "partial": bool(partial),
            "primary_key": origin == "pk",
        }
        for index, unique, origin, partial in await rows(_INDEXES, name)
    ]
    keys: dict[int, dict[str, Any]] = {}
    for number, other, column, their_column, on_update, on_delete in await rows(_FOREIGN_KEYS, name):
        key = keys.setdefault(
            number,
            {"table": other, "columns": [], "references": [], "on_update": on_update, "on_delete": on_delete},
        )
        key["columns"].append(column)
        key["references"].append(their_column)
    primary_key = [row[0] for row in sorted(columns, key=lambda row: row[4]) if row[4]]
    # Only an INTEGER that is the whole key is the rowid, which is never NULL; SQLite lets any other key be NULL.
    rowid = primary_key[0] if len(primary_key) == 1 else None
    return {
        "name": name,
        "type": kind,
        "columns": [
            {
                "name": column,
                "type": declared,
                "nullable": not not_null and not (column == rowid and declared.upper() == "INTEGER"),
                "default": default,
                "primary_key": bool(primary),
                "generated": hidden in (2, 3),
            }
            for column, declared, not_null, default, primary, hidden in columns
            if hidden != 1
        ],
        "primary_key": primary_key,
        "indexes": indexes,
        "foreign_keys": list(keys.values()),
    }
