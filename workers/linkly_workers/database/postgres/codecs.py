"""How values of PostgreSQL become values of JSON, without loss.

Where Python's type is narrower than PostgreSQL's (a date of 4713 BC, 24:00, an interval with months, NUMERIC) a value
travels as the text that `psql` shows and takes. So does everything that JSON has no type for. Texts are ISO 8601 where
there is a form, and the server reads each of them back as the same value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from linkly_workers.database._server.json_value import json_value

AS_TEXT = (
    *("numeric", "money", "uuid", "xml", "jsonpath"),
    *("date", "time", "timetz", "interval"),
    *("bit", "varbit", "inet", "cidr", "macaddr", "macaddr8"),
    *("point", "line", "lseg", "box", "path", "polygon", "circle"),
    *("tsvector", "tsquery", "pg_lsn", "xid", "cid", "tid", "xid8", "pg_snapshot", "txid_snapshot"),
    *("regclass", "regproc", "regprocedure", "regoper", "regoperator", "regtype", "regrole", "regnamespace"),
    *("regconfig", "regdictionary", "regcollation", "aclitem", "refcursor", "cstring"),
)
"""Types whose values are texts in both directions; the driver has the other text types by itself."""

AS_BYTES = ("char", "char[]")
"""The type `"char"` of the catalog, one byte that is shown as a letter: to the driver its name is another type's."""

_DECODED: dict[str, Callable[[str], Any]] = {}


def _timestamptz(text: str) -> str:
    """Return RFC 3339; what has no such form (`infinity`, BC) stays as it is. The session's zone is UTC."""
    return f"{text[:-3].replace(' ', 'T')}Z" if text.endswith("+00") else text


def _timestamp(text: str) -> str:
    return text if text.endswith("BC") else text.replace(" ", "T")


_DECODED.update(timestamptz=_timestamptz, timestamp=_timestamp, json=json_value, jsonb=json_value, float4=float)


def _as_is(text: str) -> str:
    return text


async def set_codecs(connection: Any) -> None:
    """Teach a connection; nothing is asked of the server."""
    for name in (*AS_TEXT, *_DECODED):
        await connection.set_type_codec(
            name, schema="pg_catalog", encoder=_as_is, decoder=_DECODED.get(name, _as_is), format="text"
        )
