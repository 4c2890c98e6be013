"""What a function answered -> status, headers and bytes (docs/workers.md#http), and the error envelope."""

from __future__ import annotations

import logging
import re
import secrets
from functools import lru_cache
from typing import Any, TypeAlias, cast

import msgspec

from linkly import HttpResponse, Json
from linkly.errors import CallTimeout, HandlerFailed, InvalidResult, LinklyError, Overloaded

log = logging.getLogger("linkly.http")

Headers: TypeAlias = list[tuple[bytes, bytes]]

JSON_TYPE = (b"content-type", b"application/json")

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
WITHOUT_BODY = (204, 205, 304)
_HOP_BY_HOP = (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
"""They are the connection's (RFC 9110 7.6.1), of which a function knows nothing."""
MANAGED = frozenset((b"content-length", b"date", *_HOP_BY_HOP))
"""What the gateway says itself: twice would be wrong."""
_TYPE_BEGIN = "content-type: "
_JSON_LINE = "content-type: application/json\r\n"
_TEXT = frozenset((str,))
_UNREMARKABLE = (501, 505)
"""Statuses of the server that are the client's doing."""
_FAILED = "the function failed; why is in the log of the server, beside this error_id"
"""What clients are told instead of the text of a handler's exception, which may hold secrets."""


class UnsendableResponse(InvalidResult):
    """What a function answered cannot be sent as a response."""

    def __init__(self, function_id: str, problem: str) -> None:
        super().__init__(f"what `{function_id}` answered cannot be sent: {problem}")


class Reply(msgspec.Struct):
    """A whole response.

    Attributes:
        status: 200..999.
        headers: Names in lower case, and values.
        body: As it is sent.
        lines: Further header lines, as they are sent.
    """

    status: int
    headers: Headers
    body: bytes
    lines: bytes = b""


class _Answer(msgspec.Struct):
    """The three keys that make a value a response; each stays as the function wrote it."""

    status_code: Any = msgspec.UNSET
    headers: Any = msgspec.UNSET
    body: Json | msgspec.UnsetType = msgspec.UNSET


_answer_decoder = msgspec.json.Decoder(_Answer)


def reply(result: Any, function_id: str) -> Reply:
    """Turn what a function answered into a response.

    A value without any of `status_code`, `headers` and `body` is answered itself, as JSON with status 200.

    Raises:
        UnsendableResponse: A field has a type that cannot be sent: left out, it would go unnoticed.
    """
    try:
        if type(result) is HttpResponse:
            usual = _usual(result)
            if usual is not None:
                return usual
            if _is_plain(result):
                headers = read_headers(result.headers, function_id)
                return _response(read_status(result.status_code, function_id), headers, result.body)
        data = bytes(result) if type(result) is Json else msgspec.json.encode(result)
        if data[:1] != b"{":
            return Reply(200, [JSON_TYPE], _compact(data))
        answer = _answer_decoder.decode(data)
        if answer.status_code is answer.headers is answer.body is msgspec.UNSET:
            return Reply(200, [JSON_TYPE], _compact(data))
        headers = read_headers(answer.headers, function_id)
        return _response(read_status(answer.status_code, function_id), headers, answer.body)
    except (TypeError, ValueError, RecursionError) as error:  # a worker of another language made it
        raise UnsendableResponse(function_id, f"it is no JSON ({error})") from error


def _usual(response: HttpResponse) -> Reply | None:
    """Return what the rest of this module would, for what most functions of this process answer; `None`: ask it.

    That is a map of header lines that are sent as they are, and JSON, nothing, or text of a type that is said. It takes
    0.5 us where the others take 1.2.
    """
    status, given, value = response.status_code, response.headers, response.body
    if type(status) is not int or not 200 <= status <= 999 or type(given) is not dict:
        return None
    lines, typed = "", False
    for name, text in given.items():
        if type(name) is not str or type(text) is not str or not text.isprintable():
            return None
        begin = _line_begin(name)
        if begin == "":
            return None
        if begin == _TYPE_BEGIN:
            typed = True
        lines += f"{begin}{text.strip()}\r\n"
    if not lines.isascii():
        return None
    if status in WITHOUT_BODY or (value is msgspec.UNSET and 300 <= status < 400):
        body = b""
    elif typed:
        if type(value) is not str:
            return None
        body = value.encode()
    else:
        if type(value) is Json:
            return None
        body = _compact(msgspec.json.encode({} if value is msgspec.UNSET else value))
        lines += _JSON_LINE
    return Reply(status, [], body, lines.encode())


def _is_plain(response: HttpResponse) -> bool:
    """Return whether a response of this process can be read as it is: status a number, headers a map of text."""
    given: Any = response.headers
    if type(response.status_code) is not int or type(given) is not dict:
        return False
    return _TEXT.issuperset(map(type, given)) and _TEXT.issuperset(map(type, given.values()))


def _response(status: int, headers: Headers, given: Any) -> Reply:
    if status in WITHOUT_BODY or (given is msgspec.UNSET and 300 <= status < 400):
        return Reply(status, headers, b"")
    value = {} if given is msgspec.UNSET else given
    body = bytes(value) if type(value) is Json else msgspec.json.encode(value)
    if not any(name == b"content-type" for name, _ in headers):
        headers.append(JSON_TYPE)
    elif body == b"null":
        return Reply(status, headers, b"")
    elif body[:1] == b'"':
        return Reply(status, headers, msgspec.json.decode(body, type=str).encode())
    return Reply(status, headers, _compact(body))


def _compact(body: bytes) -> bytes:
    """Take the spaces out of JSON that was written with them, as older Python clients do; its numbers stay as written.

    Whoever writes spaces does so from the first separator on, so a look at the beginning is enough: 0.2 us.
    """
    spaced = body.find(b'": ', 0, 256) >= 0 or body.find(b", ", 0, 256) >= 0
    return msgspec.json.format(body, indent=-1) if spaced else body


def read_status(given: Any, function_id: str) -> int:
    """Return a status that can end a request: a number, or text that is one.

    It is 200 where none is given, and for a number that is none. 1xx is none: an interim status ends nothing
    (RFC 9110 15.2).

    Raises:
        UnsendableResponse: It is no number.
    """
    if given is msgspec.UNSET or given is None:
        return 200
    status: Any = given
    if type(status) is int and 200 <= status <= 999:
        return status
    if isinstance(given, str) and given.isascii() and given.isdigit():
        status = int(given[:4])
    elif isinstance(given, float) and given.is_integer():
        status = int(given)
    if type(status) is not int:
        raise UnsendableResponse(function_id, f"status_code is {_shown(given)}; it is a number from 200 to 999")
    if 200 <= status <= 999:
        return status
    log.warning("`%s` answered status_code %s, which ends no request: 200 was sent", function_id, _shown(given))
    return 200


def read_headers(given: Any, function_id: str) -> Headers:
    """Read headers from a map or a list of `Name: value`.

    In a map a list of values becomes several lines, numbers and booleans their JSON text, and null is no header. What
    could split the response is left out.

    Raises:
        UnsendableResponse: One has a type that no header has.
    """
    headers: Headers = []
    if isinstance(given, dict):
        for name, value in cast("dict[str, Any]", given).items():
            if type(value) is str:
                raw_name = _field_name(name)
                if raw_name and raw_name not in MANAGED and value.isascii() and value.isprintable():
                    headers.append((raw_name, value.strip().encode()))
                else:
                    _add(headers, name, value, function_id)
                continue
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, (bool, int, float)):
                    _add(headers, name, msgspec.json.encode(one).decode(), function_id)
                elif isinstance(one, str):
                    _add(headers, name, one, function_id)
                elif one is not None:
                    wanted = "a header is text, a number, true or false, or a list of these"
                    raise UnsendableResponse(function_id, f"headers[{_shown(name)}] is {_shown(one)}; {wanted}")
    elif isinstance(given, list):
        for index, line in enumerate(given):
            name, found, value = line.partition(":") if isinstance(line, str) else ("", "", "")
            if not found:
                raise UnsendableResponse(function_id, f"headers[{index}] is {_shown(line)}, not `Name: value`")
            _add(headers, name.strip(), value, function_id)
    elif given is not None and given is not msgspec.UNSET:
        raise UnsendableResponse(function_id, f"headers are {_shown(given)}, neither a map nor a list")
    return headers


@lru_cache(maxsize=1024)
def _field_name(name: str) -> bytes:
    """Return a header's name as it is sent, nothing if it is not allowed."""
    raw = name.encode().lower()
    return raw if _NAME.fullmatch(raw) else b""


@lru_cache(maxsize=1024)
def _line_begin(name: str) -> str:
    """Return how the line of a header begins, nothing if it is not sent as it is."""
    raw_name = _field_name(name)
    return f"{raw_name.decode()}: " if raw_name and raw_name not in MANAGED else ""


def _add(headers: Headers, name: str, value: str, function_id: str) -> None:
    raw_name = _field_name(name)
    if raw_name in MANAGED:
        return
    raw_value = value.encode().strip()
    if raw_name and _VALUE.fullmatch(raw_value):
        headers.append((raw_name, raw_value))
    else:
        log.warning("left out header %r of what `%s` answered: its name or value is not allowed", name, function_id)


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 100 else text[:97] + "..."


def error_reply(
    status: int,
    code: str,
    message: str,
    *,
    shown: str | None = None,
    headers: Headers | None = None,
    route: str = "",
    error_id: str | None = None,
    **extra: Any,
) -> Reply:
    """Return the error envelope; the ones that are logged carry an `error_id` to find the log line by.

    Args:
        status: 400..599.
        code: For programs.
        message: What happened.
        shown: What the client is told instead of it.
        headers: Besides the content type.
        route: For the log line: ``GET /s/:code runs `http::redirect` ``.
        error_id: It has been logged under this one.
        **extra: Further keys beside `error`.
    """
    body: dict[str, Any] = {"error": {"code": code, "message": message if shown is None else shown}}
    if status >= 500 and status not in _UNREMARKABLE:
        body["error"]["error_id"] = error_id or secrets.token_hex(6)
        if error_id is None:
            text = f"{route}: {status}, {code}: {message}" if route else f"{status}, {code}: {message}"
            _log_error(text, body["error"]["error_id"])
    return Reply(status, [JSON_TYPE, *(headers or [])], msgspec.json.encode({**body, **extra}))


def not_allowed(method: str, known: list[str]) -> Reply:
    """Return the answer to a method that a path does not have; to OPTIONS, what it has."""
    allow = ", ".join([*known, "OPTIONS"])
    if method == "OPTIONS":
        return Reply(204, [(b"allow", allow.encode())], b"")
    text = f"{method} is not allowed here; allowed: {allow}"
    return error_reply(405, "METHOD_NOT_ALLOWED", text, headers=[(b"allow", allow.encode())])


def failure_reply(error: LinklyError, function_id: str, route: str, *, expose: bool = False) -> Reply:
    """Return the response for a call that failed.

    With `expose` clients are told what a handler's exception said. An error with its own code was raised to be told.
    """
    where = f"{route} runs `{function_id}`"
    if isinstance(error, CallTimeout):
        return error_reply(504, error.code, error.message, route=where)
    if isinstance(error, Overloaded):
        return error_reply(503, error.code, error.message, headers=[(b"retry-after", b"1")])
    if error.failed_function_id not in (None, function_id):  # the line about that one does not know the route
        _log_error(f"{where}: 500, `{error.failed_function_id}` failed", error.error_id)
    secret = not expose and (error.code == HandlerFailed.code or isinstance(error, UnsendableResponse))
    shown = _FAILED if secret else None
    return error_reply(500, error.code, error.message, shown=shown, route=where, error_id=error.error_id)


def _log_error(text: str, error_id: str | None) -> None:
    # As data where the engine shows the line, in the text everywhere else.
    log.error("%s %s", error_id, text, extra={"body": text, "data": {"error_id": error_id}})
