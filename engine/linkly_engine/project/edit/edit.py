"""One text of a config.yaml -> another: an entry added, removed, replaced.

Every function is pure, returns the layout of the new text, and proves it: the new text is parsed, and has to say what
the old one said plus the one change. What belongs to an entry, and goes with it:

* the comment lines directly above it, without an empty line between, that begin in the column of its dash;
* the comment lines directly below it that are indented deeper than its dash (settings that were commented out);
* the empty lines above it, up to the entry before.

Entries in brackets (`workers: [{name: a}]`) are left to people: the rules above are those of a list of lines.
"""

from __future__ import annotations

from typing import Any

import yaml

from linkly.errors import ConfigError
from linkly_engine.project.edit.layout import Entry, Layout, Listing, read

Replacement = tuple[int, int, str]


def add_entry(layout: Layout, value: dict[str, Any]) -> Layout:
    """Append an entry to the list of workers; the list is made if there is none.

    Raises:
        ConfigError: The text is written in a way that cannot be extended safely.
    """
    listing = next((found for key in ("workers", "modules") for found in layout.lists if found.key == key), None)
    _check_style(layout, listing)
    expected = dict(layout.value or {})
    if listing is None:
        end, body = len(layout.text), "workers:" + layout.line_end + _block_text(layout, value, 2, 2)
        replacements = [(end, end, _own_line(layout, end, body))]
        expected["workers"] = [value]
    else:
        replacements = _appended(layout, listing, value)
        expected[listing.key] = [*(expected[listing.key] or []), value]
    return _proved(layout, replacements, expected)


def remove_entry(layout: Layout, entry: Entry) -> Layout:
    """Remove an entry with what belongs to it.

    Raises:
        ConfigError: Another part of the file needs it (an anchor), or it is written in an unusual way.
    """
    listing = _list_of(layout, entry)
    replacements = _removal(layout, listing, listing.entries.index(entry))
    values = [other.value for other in listing.entries if other is not entry]
    return _proved(layout, replacements, {**(layout.value or {}), listing.key: values})


def replace_entry(layout: Layout, entry: Entry, value: dict[str, Any]) -> Layout:
    """Write an entry anew in its place; comments around it stay, those inside it go.

    Raises:
        ConfigError: As `remove_entry`.
    """
    listing = _list_of(layout, entry)
    body = _block_text(layout, value, listing.column, entry.gap).lstrip(" ")
    values = [value if other is entry else other.value for other in listing.entries]
    return _proved(layout, [(entry.start, entry.end, body)], {**(layout.value or {}), listing.key: values})


def replace_value(layout: Layout, entry: Entry, key: str, text: str) -> Layout:
    """Write another text for one key of an entry.

    Raises:
        ConfigError: As `remove_entry`.
    """
    listing = _list_of(layout, entry)
    start, end = entry.parts[key]
    changed = {**entry.value, key: text}
    values = [changed if other is entry else other.value for other in listing.entries]
    replacement = (start, end, _dumped([text], flow=True, indent=2).strip()[1:-1])
    return _proved(layout, [replacement], {**(layout.value or {}), listing.key: values})


def _list_of(layout: Layout, entry: Entry) -> Listing:
    listing = next(listing for listing in layout.lists if any(other is entry for other in listing.entries))
    _check_style(layout, listing)
    return listing


def _check_style(layout: Layout, listing: Listing | None) -> None:
    """Refuse entries in brackets; empty brackets make room for a list of lines."""
    inside = "" if listing is None or not listing.flow else layout.text[listing.start + 1 : listing.end - 1]
    if layout.flow or inside.strip():
        raise ConfigError(
            f"{layout.file}: its workers stand in brackets; write them one below the other, each behind `- `, or edit "
            "it by hand"
        )


def _proved(layout: Layout, replacements: list[Replacement], expected: dict[str, Any]) -> Layout:
    text = layout.text
    for start, end, new in sorted(replacements, reverse=True):
        text = text[:start] + new + text[end:]
    try:
        changed = read(text, layout.file)
    except ConfigError as error:
        raise ConfigError(
            f"{layout.file}: this change would break it, so it is left as it was; edit it by hand ({error.message})"
        ) from error
    if repr(changed.value) != repr(expected):
        raise ConfigError(
            f"{layout.file}: it is written in a way that this command cannot change safely, so it is left as it was; "
            "edit it by hand"
        )
    return changed


# --- adding ----------------------------------------------------------------------------------------------------


def _appended(layout: Layout, listing: Listing, value: dict[str, Any]) -> list[Replacement]:
    text = layout.text
    if listing.entries:
        last = listing.entries[-1]
        body = _block_text(layout, value, listing.column, last.gap)
        at = _below(text, listing, last)
        if _separated(layout, listing) and text[_line_start(text, at - 1) : at].strip():
            body = layout.line_end + body
        return [(at, at, _own_line(layout, at, body))]
    body = _block_text(layout, value, listing.column, 2)
    at = _line_end(text, listing.end)
    written = listing.end > listing.start  # `[]`, `~` or `null` makes room
    before = listing.start - 1 if written and text[listing.start - 1] == " " else listing.start
    return [*([(before, listing.end, "")] if written else []), (at, at, _own_line(layout, at, body))]


def _own_line(layout: Layout, at: int, body: str) -> str:
    """Make lines of `body` at the start of a line, or behind a last line that has no end."""
    if at == len(layout.text) and at > 0 and not layout.text.endswith("\n"):
        return layout.line_end + body
    return body + layout.line_end


def _separated(layout: Layout, listing: Listing) -> bool:
    """Return whether empty lines stand between the entries."""
    pairs = list(zip(listing.entries, listing.entries[1:], strict=False))
    return bool(pairs) and all("\n\n" in layout.text[a.end : b.start].replace("\r", "") for a, b in pairs)


# --- removing --------------------------------------------------------------------------------------------------


def _removal(layout: Layout, listing: Listing, index: int) -> list[Replacement]:
    text, entry = layout.text, listing.entries[index]
    before = listing.entries[index - 1] if index else None
    lowest = _below(text, listing, before) if before else _line_end(text, listing.key_end)
    start, end = _line_start(text, entry.start), _below(text, listing, entry)
    if start < lowest or text[start : entry.start].strip(" "):
        raise ConfigError(f"{layout.file}: the entry does not begin a line of its own; edit it by hand")
    while start > lowest and _comment_column(text, _line_start(text, start - 1)) == listing.column:
        start = _line_start(text, start - 1)
    above = start
    while start > lowest and not text[_line_start(text, start - 1) : start].strip():
        start = _line_start(text, start - 1)
    nothing_above = index == 0 and start == above and len(listing.entries) > 1
    # Blank lines right above belong to a text that keeps them (`|+`): those below would become a part of it.
    kept_above = before is not None and start == lowest and not text[_line_start(text, start - 1) : start].strip()
    if nothing_above or kept_above:  # the gap below it goes
        while end < len(text) and not text[end : _line_end(text, end)].strip():
            end = _line_end(text, end)
    if end == len(text) and not text.endswith("\n"):
        # The line before becomes the last one, without an end as well, unless that belongs to a text (`|`).
        bare = text[:start].removesuffix(layout.line_end)
        if repr(read(bare, layout.file).value) == repr(read(text[:start], layout.file).value):
            start = len(bare)
    removal = (start, end, "")
    if len(listing.entries) > 1:
        return [removal]
    colon = text.index(":", listing.key_end) + 1
    at = colon + len(text[colon:start].split("#", 1)[0].rstrip())  # behind an anchor or a tag, if there is one
    return [(at, at, " []"), removal]


# --- lines and pieces ------------------------------------------------------------------------------------------


def _below(text: str, listing: Listing, entry: Entry) -> int:
    """Return the start of the line behind an entry and the deeper comments directly below it."""
    at = _line_end(text, entry.end)
    while (column := _comment_column(text, at)) is not None and column > listing.column:
        at = _line_end(text, at)
    return at


def _comment_column(text: str, start: int) -> int | None:
    """Return where the comment of a line begins that is nothing else."""
    line = text[start : _line_end(text, start)]
    bare = line.lstrip(" ")
    return len(line) - len(bare) if bare.startswith("#") else None


def _line_start(text: str, at: int) -> int:
    return text.rfind("\n", 0, max(at, 0)) + 1


def _line_end(text: str, at: int) -> int:
    found = text.find("\n", at)
    return len(text) if found < 0 else found + 1


def _block_text(layout: Layout, value: dict[str, Any], column: int, gap: int) -> str:
    lines = _dumped(value, flow=False, indent=max(gap, 2)).splitlines()
    first = " " * column + "-" + " " * (gap - 1)
    return layout.line_end.join((first if number == 0 else " " * (column + gap)) + x for number, x in enumerate(lines))


def _dumped(value: Any, *, flow: bool, indent: int) -> str:
    return yaml.safe_dump(
        value, default_flow_style=flow, sort_keys=False, allow_unicode=True, width=100_000, indent=indent
    )
