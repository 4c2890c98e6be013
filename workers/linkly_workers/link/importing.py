"""Reading links to import as CSV, from a channel, line by line."""

from __future__ import annotations

import codecs
import csv
from collections.abc import AsyncIterator
from typing import Any

from linkly import ChannelReader
from linkly.errors import InvalidArguments

BATCH = 500
"""Links that are inserted in one transaction."""

COLUMNS = ("url", "code", "expires_at", "max_clicks")
MAX_LINE = 65_536


async def csv_rows(reader: ChannelReader) -> AsyncIterator[dict[str, Any]]:
    """Read a CSV file whose first line names its columns; an empty cell counts as left out.

    A record is one line: no URL has a line break in it.

    Raises:
        InvalidArguments: The file is not UTF-8, its first line does not name `url` or names what nobody knows, or a
            line is longer than 64 KiB.
    """
    header: list[str] | None = None
    async for line in _lines(reader):
        cells = next(csv.reader([line]), [])
        if not any(cells):
            continue
        if header is None:
            header = [cell.strip().lower() for cell in cells]
            unknown = [name for name in header if name not in COLUMNS]
            if unknown or "url" not in header:
                raise InvalidArguments(
                    f"the first line names the columns {', '.join(header)}; it needs `url`, and may have "
                    + ", ".join(f"`{name}`" for name in COLUMNS[1:])
                )
            continue
        row: dict[str, Any] = {name: cell.strip() for name, cell in zip(header, cells, strict=False) if cell.strip()}
        if row.get("max_clicks", "").isdecimal():
            row["max_clicks"] = int(row["max_clicks"])
        yield row


async def _lines(reader: ChannelReader) -> AsyncIterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    rest = ""
    try:
        async for part in reader:
            if isinstance(part, str):
                continue
            *lines, rest = (rest + decoder.decode(part)).split("\n")
            if len(rest) > MAX_LINE:
                raise InvalidArguments(f"a line of the CSV file is longer than {MAX_LINE} characters")
            for line in lines:
                yield line.rstrip("\r")
        rest += decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise InvalidArguments(f"the CSV file is not UTF-8: {error}") from error
    if rest:
        yield rest.rstrip("\r")
