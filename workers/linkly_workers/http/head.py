"""Checks of a request's head (RFC 9112 2, 3 and 6). Pure."""

from __future__ import annotations

import ipaddress
import re

import httptools

from linkly_workers.http.response import Reply, error_reply

_HOST = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?")
"""RFC 3986 3.2.2; the group: an IPv6 address."""


class Refused(Exception):
    """The request that is being parsed is refused."""

    def __init__(self, answer: Reply) -> None:
        super().__init__(answer.status)
        self.answer = answer


def check_version(version: str) -> None:
    """Check the version of a request: 1.0 or 1.1.

    Raises:
        Refused: It is another one: 0.9 has no headers to check, and 2 is binary.
    """
    if version == "0.9":
        raise bad_request("the request line ends without a version such as `HTTP/1.1` (RFC 9112 3)")
    if version not in ("1.0", "1.1"):
        text = f"HTTP/{version} is not spoken here; ask with HTTP/1.1"
        raise Refused(error_reply(505, "HTTP_VERSION_NOT_SUPPORTED", text))


def check_hosts(hosts: list[bytes], version: str) -> None:
    """Check all Host headers of a request (RFC 9112 3.2).

    Raises:
        Refused: There is not exactly one (HTTP/1.0 may leave it out), or it names no host.
    """
    if len(hosts) != 1:
        if hosts or version == "1.1":
            raise bad_request("there must be one Host header (RFC 9112 3.2)")
        return
    found = _HOST.fullmatch(hosts[0])
    if found is not None and found[1] is not None:
        try:
            ipaddress.IPv6Address(found[1].decode())
        except ValueError:
            found = None
    if found is None:
        host = hosts[0].decode("latin-1")
        raise bad_request(f"the Host header `{host}` is no host with an optional port (RFC 9112 3.2)")


def check_codings(values: list[bytes]) -> None:
    """Check all Transfer-Encoding headers of a request (RFC 9112 6.1 and 6.3).

    Raises:
        Refused: The end of the body cannot be found, or it has a coding that the gateway does not decode.
    """
    codings = [coding.strip().lower() for coding in b",".join(values).split(b",") if coding.strip()]
    if codings[-1:] != [b"chunked"] or codings.count(b"chunked") > 1:
        raise bad_request("Transfer-Encoding must end with `chunked`, said once (RFC 9112 6.3)")
    if len(codings) > 1:
        text = f"Transfer-Encoding `{codings[0].decode('latin-1')}` is not unpacked here; send `chunked` alone"
        raise Refused(error_reply(501, "NOT_IMPLEMENTED", text))


def local_target(method: bytes, target: bytes) -> bytes:
    """Return path and query of a target (RFC 9112 3.2.1 to 3.2.4), which may be `*`.

    Raises:
        Refused: An origin server does not serve such a target.
    """
    if method == b"CONNECT":
        raise Refused(error_reply(501, "NOT_IMPLEMENTED", "CONNECT asks for a proxy; this is none"))
    if target == b"*":
        if method != b"OPTIONS":
            raise bad_request("the target `*` is for OPTIONS alone (RFC 9112 3.2.4)")
        return target
    url = httptools.parse_url(target)
    path = url.path or b"/"
    return path + b"?" + url.query if url.query else path


def bad_request(text: str) -> Refused:
    """Return the refusal with 400."""
    return Refused(error_reply(400, "BAD_REQUEST", text))
