"""Reading links to import as CSV, from a channel, line by line."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Callable
from typing import Any

from linkly import ChannelReader
from linkly.errors import InvalidArguments

COLUMNS = {name: name for name in ("url", "code", "expires_at", "max_clicks")} | {"keyword": "code"}
"""Names of columns, and what they are of a link; `keyword` is what YOURLS writes. Others are left out."""
MAX_LINE = 65_536
MAX_DIGITS = 16
"""Digits of the largest `max_clicks`; Python refuses to read numbers of thousands of digits."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


async def csv_rows(
    reader: ChannelReader, ignore: Callable[[str], object]
) -> AsyncIterator[dict[str, Any] | InvalidArguments]:
    """Read a CSV file whose first line names its columns; an empty cell counts as left out.

    A record is one line: no URL has a line break in it. `ignore` is told every column that is none of a link's.

    Yields:
        A row, or what is wrong with a line that is none.

    Raises:
        InvalidArguments: The first line cannot be read, does not name `url`, or names one thing twice.
    """
    header: list[str] | None = None
    async for line in _lines(reader):
        row: dict[str, Any] | InvalidArguments
        try:
            cells = _cells(line)
            if not any(cells):
                continue
            if header is None:
                header = _columns(cells, ignore)
                continue
            row = _row(header, cells)
        except InvalidArguments as error:
            if header is None:
                raise InvalidArguments(
                    f"the CSV file cannot be read from its first line on: {error.message}"
                ) from error
            row = error
        yield row


def _columns(cells: list[str], ignore: Callable[[str], object]) -> list[str]:
    """Return what each column is of a link, an empty text for those that are nothing of it."""
    header = [COLUMNS.get(cell.strip().lower(), "") for cell in cells]
    known = [name for name in header if name]
    if "url" not in known or len(set(known)) < len(known):
        raise InvalidArguments(
            f"the first line names the columns {', '.join(cells)[:500]}; it needs `url`, and may have `code` "
            "(or `keyword`), `expires_at` and `max_clicks`, each once"
        )
    for cell, name in zip(cells, header, strict=True):
        if not name and cell.strip():
            ignore(cell.strip())
    return header


def _row(header: list[str], cells: list[str]) -> dict[str, Any]:
    if any(cells[len(header) :]):
        raise InvalidArguments(
            f"the line has {len(cells)} cells, the first line names {len(header)} columns; quote a cell with a comma"
        )
    row: dict[str, Any] = {
        name: cell.strip() for name, cell in zip(header, cells, strict=False) if name and cell.strip()
    }
    number = row.get("max_clicks")
    if number is not None:
        if not (number.isascii() and number.isdecimal()) or len(number) > MAX_DIGITS:
            shown = number if len(number) <= 2 * MAX_DIGITS else number[:MAX_DIGITS] + "..."
            raise InvalidArguments(f"max_clicks {shown!r} is no number of at most {MAX_DIGITS} digits")
        row["max_clicks"] = int(number)
    return row


def _cells(line: bytes) -> list[str]:
    if len(line) > MAX_LINE:
        raise InvalidArguments(f"the line is longer than {MAX_LINE} bytes")
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise InvalidArguments(f"the line is not UTF-8: {error}") from error
    if "\r" in text:
        raise InvalidArguments("the line has a carriage return in it; lines end with LF or CRLF")
    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise InvalidArguments(f"the line is no CSV ({error}); a quoted cell ends in its line") from error


async def _lines(reader: ChannelReader) -> AsyncIterator[bytes]:
    """Yield lines without their end; of one that is too long as much as shows that it is."""
    rest = b""
    start = BYTE_ORDER_MARK
    async for part in reader:
        if isinstance(part, str):
            continue
        *lines, rest = (rest + part).split(b"\n")
        rest = rest[: MAX_LINE + 2]  # with the carriage return that may end it
        for line in lines:
            yield line.removeprefix(start).removesuffix(b"\r")
            start = b""
    if rest:
        yield rest.removeprefix(start).removesuffix(b"\r")
