"""Text that others wrote, made harmless: terminal codes out, control characters visible.

What ends up on a terminal or in a listing may have been sent by anybody: it must not move the cursor, change
colours, reverse the reading direction, or look like a line of somebody else.
"""

from __future__ import annotations

import re
import unicodedata

ESCAPE_SEQUENCE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC, DCS, SOS, PM, APC: titles, links
    r"|[ -/]*[0-~])"  # the short ones
    r"|\x9b[0-?]*[ -/]*[@-~]"
)

# Controls but tab and newline, line and paragraph separators, marks that change the reading direction, surrogates.
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")


def without_ansi(text: str) -> str:
    """Take terminal codes out."""
    return ESCAPE_SEQUENCE.sub("", text) if "\x1b" in text or "\x9b" in text else text


def stripped(text: str) -> str:
    """Take control and format characters out, also tabs, newlines and marks that change the reading direction."""
    if text.isprintable():
        return text
    return "".join(letter for letter in text if unicodedata.category(letter) not in ("Cc", "Cf"))


def visible(text: str) -> str:
    """Take terminal codes out and show control characters as escapes; tabs and newlines stay."""
    if text.isprintable():
        return text
    return _UNSAFE.sub(_escaped, without_ansi(text).replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """Do what `visible` does, and show tabs and newlines as escapes too."""
    if text.isprintable():
        return text
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
