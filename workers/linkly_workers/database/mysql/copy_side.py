"""A MySQL or MariaDB database as one side of a copy: see `CopySide`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from linkly_workers.database.copy_side import CopyColumn, CopyTable, Kind
from linkly_workers.database.copy_sql import Side, create_table, insert_text, listed

TYPES: dict[Kind, str] = {
    "integer": "BIGINT",
    "real": "DOUBLE",
    "number": "LONGTEXT",  # a DECIMAL rounds in silence
    "boolean": "BOOLEAN",
    "text": "LONGTEXT",
    "bytes": "LONGBLOB",
    "json": "JSON",
}
KEY_TYPES: dict[Kind, str] = {"number": "VARCHAR(255)", "text": "VARCHAR(255)", "bytes": "VARBINARY(255)"}
"""Of columns in an index, which have to have a length."""

_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "bigint", "year", "bit"), "integer"),
    **dict.fromkeys(("float", "double"), "real"),
    **dict.fromkeys(("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"), "bytes"),
    "decimal": "number",
    "json": "json",
}
_COUNTS = """
SELECT column_name FROM information_schema.columns
WHERE table_schema = DATABASE() AND BINARY table_name = ? AND extra LIKE '%auto_increment%'"""
_TRIGGERS = """
SELECT trigger_name FROM information_schema.triggers
WHERE event_object_schema = DATABASE() AND BINARY event_object_table = ?"""
_LITERAL = re.compile(r"-?[0-9]+(?:\.[0-9]+)?|'(?:[^'\\]|'')*'")
_CAST = re.compile(r"('(?:[^'\\]|'')*')::[a-z \"]+(?:\([0-9,]*\))?")


class MysqlSide(Side):
    """One database."""

    numbers_zero = True
    commits_tables = True

    def quoted(self, name: str) -> str:
        """Return a name as SQL."""
        return "`" + name.replace("`", "``") + "`"

    async def table(self, name: str) -> CopyTable:
        """Return a table: see `CopySide.table`."""
        found = await self._describe(name) or {}
        counts = {column for (column,) in await self._rows(_COUNTS, name)}
        key: list[str] = found["primary_key"]
        columns = [
            CopyColumn(
                name=column["name"],
                kind=_kind(column["type"]),
                declared=column["type"],
                nullable=column["nullable"],
                default=column["default"],
                counts=column["name"] in counts,
                generated=column["generated"],
            )
            for column in found["columns"]
        ]
        names = {column.name for column in columns}
        indexes: list[tuple[str, list[str], bool]] = []
        left_out: list[str] = []
        for index in found["indexes"]:
            if index["primary_key"]:
                continue
            if names.issuperset(index["columns"]):
                indexes.append((index["name"], index["columns"], index["unique"]))
            else:
                left_out.append(f"index `{index['name']}`, which is of expressions")
        left_out += [f"trigger `{trigger}`" for (trigger,) in await self._rows(_TRIGGERS, name)]
        ((_, text),) = await self._rows(f"SHOW CREATE TABLE {self.quoted(name)}")
        return CopyTable(
            name=found["name"],
            columns=columns,
            order=[self._order(column) for name in key for column in columns if column.name == name],
            primary_key=key,
            unique=[],
            indexes=indexes,
            foreign_keys=found["foreign_keys"],
            texts=[text],
            left_out=left_out,
        )

    def _order(self, column: CopyColumn) -> str:
        """Return what orders rows by a column of the key: the server sorts lists of names by number, but compares them
        with a text by name."""
        name = self.quoted(column.name)
        return f"CAST({name} AS UNSIGNED)" if column.declared.startswith(("enum(", "set(")) else name

    async def make(self, table: CopyTable, same_kind: bool) -> list[str]:
        """Return the statement that makes a table here: see `CopySide.make`."""
        if same_kind:
            return table.texts
        ((version,),) = await self._rows("SELECT VERSION()")
        # Bytes are compared, blanks at the end as well, as the other kinds do.
        collation = "utf8mb4_nopad_bin" if "MariaDB" in version else "utf8mb4_0900_bin"
        keys = {name for _, names, _ in table.indexes for name in names} | {*table.primary_key}
        keys |= {name for names in table.unique for name in names}
        keys |= {name for key in table.foreign_keys for name in key["columns"]}
        columns: dict[str, str] = {}
        for column in table.columns:
            definition = KEY_TYPES.get(column.kind, TYPES[column.kind]) if column.name in keys else TYPES[column.kind]
            if column.counts:
                definition += " AUTO_INCREMENT"
            columns[column.name] = (
                definition + ("" if column.nullable else " NOT NULL") + _default(column, table, definition)
            )
        more = [f"PRIMARY KEY ({listed(table.primary_key, self.quoted)})"] if table.primary_key else []
        for name, names, unique in table.indexes:
            more.append(f"{'UNIQUE ' if unique else ''}KEY {self.quoted(name)} ({listed(names, self.quoted)})")
        (text,) = create_table(table, columns, more, self.quoted, indexes=False)
        return [f"{text} CHARACTER SET utf8mb4 COLLATE {collation}"]

    def reading(self, column: CopyColumn) -> str:
        """Return what a SELECT says for a column: a FLOAT as the DOUBLE that it is compared as, which comes as text."""
        name = self.quoted(column.name)
        return f"({name} + 0e0) AS {name}" if column.declared.startswith("float") else name

    def insert(self, table: CopyTable, columns: Sequence[CopyColumn], rows: int, replace: bool) -> str:
        """Return the INSERT of so many rows: see `CopySide.insert`."""
        names = [column.name for column in columns]
        text = insert_text(table, names, ["?"] * len(names), rows, self.quoted)
        if not (replace and table.primary_key):
            return text
        sets = [self.quoted(name) for name in names if name not in table.primary_key] or [
            self.quoted(table.primary_key[0])
        ]
        return f"{text} ON DUPLICATE KEY UPDATE {', '.join(f'{name} = VALUES({name})' for name in sets)}"


def _kind(declared: str) -> Kind:
    text = declared.lower()
    kind = _KINDS.get(re.split(r"[ (]", text)[0], "text")
    return "number" if kind == "integer" and "bigint" in text and "unsigned" in text else kind


def _default(column: CopyColumn, table: CopyTable, definition: str) -> str:
    given = column.default
    if given is None or column.counts or column.generated or given.upper() == "NULL":
        return ""
    cast = _CAST.fullmatch(given)
    given = given if cast is None else cast[1]
    if _LITERAL.fullmatch(given) and not definition.startswith(("LONG", "JSON")):
        return f" DEFAULT {given}"
    table.left_out.append(f"the default of column `{column.name}`: {given}")
    return ""
