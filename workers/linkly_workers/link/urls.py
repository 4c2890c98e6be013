"""Which addresses a short link may lead to."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from linkly.errors import LinklyError

MAX_CHARACTERS = 8192

_SCHEME = re.compile(r"https?://", re.IGNORECASE)
_OTHER_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:(?!\d)", re.IGNORECASE)


class InvalidUrl(LinklyError):
    """The address cannot be a link's target."""

    code = "INVALID_URL"


def check_url(given: str) -> str:
    """Return the address a link leads to; one without a scheme gets `https://`.

    Raises:
        InvalidUrl: It is no http(s) address, or would do harm in a `Location` header.
    """
    if any(ord(letter) < 0x21 or ord(letter) == 0x7F for letter in given):
        raise InvalidUrl("url has white space or control characters in it")
    if not given or len(given) > MAX_CHARACTERS:
        raise InvalidUrl(f"url has {len(given)} characters; allowed: 1 to {MAX_CHARACTERS}")
    if not _SCHEME.match(given) and _OTHER_SCHEME.match(given):
        raise InvalidUrl(f"url has scheme `{given.split(':', 1)[0]}`; allowed: http, https")
    url = given if _SCHEME.match(given) else f"https://{given}"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidUrl(f"url {given!r} is malformed: {error}") from error
    if not host:
        raise InvalidUrl(f"url {given!r} has no host")
    if parts.username is not None or parts.password is not None:
        raise InvalidUrl("url carries a user name or a password; links are public")
    return url
