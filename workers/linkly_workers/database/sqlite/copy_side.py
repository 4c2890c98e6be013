"""A SQLite database as one side of a copy: see `CopySide`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from linkly_workers.database.copy_side import CopyColumn, CopyTable, Kind
from linkly_workers.database.copy_sql import LITERAL, Side, create_table, insert_text, listed, quoted, replacing

TYPES: dict[Kind, str] = {
    "integer": "INTEGER",
    "real": "REAL",
    "number": "TEXT",  # SQLite's own numbers would lose digits
    "boolean": "INTEGER",
    "text": "TEXT",
    "bytes": "BLOB",
    "json": "TEXT",
}
_ROWIDS = ("rowid", "_rowid_", "oid")
_WITHOUT_ROWID = "SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?"
_TEXTS = "SELECT sql FROM sqlite_schema WHERE tbl_name = ? AND type IN ('table', 'index') AND sql IS NOT NULL"
_TRIGGERS = "SELECT name FROM sqlite_schema WHERE tbl_name = ? AND type = 'trigger'"
_CAST = re.compile(r"('(?:[^']|'')*')::[a-z \"]+(?:\([0-9,]*\))?")


class SqliteSide(Side):
    """One file."""

    loses_nan = True

    async def table(self, name: str) -> CopyTable:
        """Return a table: see `CopySide.table`."""
        found = await self._describe(name) or {}
        key: list[str] = found["primary_key"]
        names = [column["name"].lower() for column in found["columns"]]
        without = bool((await self._rows(_WITHOUT_ROWID, name))[0][0])
        rowid = next((each for each in _ROWIDS if each not in names), None)
        order = [rowid] if rowid is not None and not without else [quoted(each) for each in key if without]
        columns = [
            CopyColumn(
                name=column["name"],
                kind=_kind(column["type"]) or "text",
                declared=column["type"],
                nullable=column["nullable"] and column["name"] not in key,
                default=column["default"],
                counts=key == [column["name"]] and column["type"].upper() == "INTEGER" and not without,
                generated=column["generated"],
            )
            for column in found["columns"]
        ]
        indexes, unique, left_out = _indexes(found["indexes"])
        left_out += [f"trigger `{trigger}`" for (trigger,) in await self._rows(_TRIGGERS, name)]
        return CopyTable(
            name=found["name"],
            columns=columns,
            order=order,
            primary_key=key,
            unique=unique,
            indexes=indexes,
            foreign_keys=found["foreign_keys"],
            texts=[text for (text,) in await self._rows(_TEXTS, name)],
            left_out=left_out,
        )

    async def decide(self, table: CopyTable) -> None:
        """Decide by their values what those columns are whose declared type says nothing of it."""
        unclear = [column for column in table.columns if _kind(column.declared) is None]
        if not unclear:
            return
        asked = ", ".join(f"group_concat(DISTINCT typeof({quoted(column.name)}))" for column in unclear)
        (row,) = await self._rows(f"SELECT {asked} FROM {quoted(table.name)}")  # noqa: S608 - names, quoted
        for column, found in zip(unclear, row, strict=True):
            kinds = {kind for kind in str(found or "").split(",") if kind not in ("", "null")}
            column.kind = _kind_of_values(kinds)

    async def make(self, table: CopyTable, same_kind: bool) -> list[str]:
        """Return the statements that make a table here: see `CopySide.make`."""
        if same_kind:
            table.left_out = [each for each in table.left_out if each.startswith("trigger")]
            return table.texts
        columns: dict[str, str] = {}
        for column in table.columns:
            definition = TYPES[column.kind]
            if column.counts and table.primary_key == [column.name] and column.kind == "integer":
                columns[column.name] = "INTEGER PRIMARY KEY"
                continue
            if not column.nullable:
                definition += " NOT NULL"
            columns[column.name] = definition + _default(column, table)
        key = table.primary_key
        alone = len(key) == 1 and columns[key[0]] == "INTEGER PRIMARY KEY"
        return create_table(table, columns, [] if alone or not key else [f"PRIMARY KEY ({listed(key)})"])

    def insert(self, table: CopyTable, columns: Sequence[CopyColumn], rows: int, replace: bool) -> str:
        """Return the INSERT of so many rows: see `CopySide.insert`."""
        names = [column.name for column in columns]
        return insert_text(table, names, ["?"] * len(names), rows) + (replacing(table, names) if replace else "")


def _kind(declared: str) -> Kind | None:
    """Return what a declared type says (https://sqlite.org/datatype3.html, 3.1); `None`: its values have to."""
    text = declared.upper()
    if "INT" in text:
        return "integer"
    if any(word in text for word in ("CHAR", "CLOB", "TEXT")):
        return "text"
    if any(word in text for word in ("REAL", "FLOA", "DOUB")):
        return "real"
    return None


def _kind_of_values(found: set[str]) -> Kind:
    if found <= {"integer"} and found:
        return "integer"
    if found <= {"real"} and found:
        return "real"
    if found <= {"integer", "real"} and found:
        return "number"
    return "bytes" if found == {"blob"} else "text"


def _indexes(found: list[dict[str, Any]]) -> tuple[list[tuple[str, list[str], bool]], list[list[str]], list[str]]:
    indexes: list[tuple[str, list[str], bool]] = []
    unique: list[list[str]] = []
    left_out: list[str] = []
    for index in found:
        if index["primary_key"]:
            continue
        if index["partial"] or None in index["columns"]:
            left_out.append(f"index `{index['name']}`, which is partial or of expressions")
        elif index["name"].startswith("sqlite_autoindex_"):
            unique.append(index["columns"])
        else:
            indexes.append((index["name"], index["columns"], index["unique"]))
    return indexes, unique, left_out


def _default(column: CopyColumn, table: CopyTable) -> str:
    given = column.default
    if given is None or column.counts or column.generated:
        return ""
    cast = _CAST.fullmatch(given)
    given = {"true": "1", "false": "0"}.get(given, given if cast is None else cast[1])
    if LITERAL.fullmatch(given):
        return f" DEFAULT {given}"
    table.left_out.append(f"the default of column `{column.name}`: {given}")
    return ""
