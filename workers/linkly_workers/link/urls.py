"""Which addresses a short link may lead to.

An address is judged as browsers read it (WHATWG URL, by the ada library): `http://0x7f.1`, `http://2130706433` and
`http://①②⑦.0.0.1` are all 127.0.0.1 to them. It is kept as it was given where that is plain ASCII, else in the form
a browser would send it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import quote

from ada_url import URL

from linkly.errors import LinklyError
from linkly_workers.link.addresses import address_in, is_public

MAX_CHARACTERS = 8192

_SCHEME = re.compile(r"https?://", re.IGNORECASE | re.ASCII)
_OTHER_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:(?![0-9])", re.IGNORECASE | re.ASCII)
_UNSEEN = re.compile(
    "[\x00-\x20\x7f-\xa0"  # controls, space, no-break space
    "\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # other white space, line and paragraph ends
    "\xad\u180e\u200b\u2060-\u2065\ufeff"  # soft hyphen, separators and joiners of no width
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"  # marks that turn the direction of text
    "\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"  # notes between lines, shorthand, beams and slurs
    "\ud800-\udfff\ufdd0-\ufdef"  # halves of a pair, what is no character
    "\U000e0000-\U000e001f\U000e0080-\U000e00ff\U000e01f0-\U000e0fff"  # tags that are in no flag
    + "".join(f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(17))
    + "]"
    r"|(?<![^\x00-\x7f])[\u200c\u200d]"  # a joiner needs a letter before it that it can join, as in Persian
    r"|(?<![\U0001f3f4\U000e0020-\U000e007e])[\U000e0020-\U000e007f]"  # tags need a flag before them, as Scotland's
)
"""What nobody sees in an address: spelled out, because Python's tables know the characters of one Unicode version.

White space, default-ignorable characters and noncharacters are fixed ranges (Unicode 5.22, 23.7, UAX 44 stability).
What is left out of them on purpose: selectors and joiners that emoji and scripts need, characters for private use, and
everything that a later version of Unicode will name.
"""
_LOCAL_NAMES = (
    *("localhost", "local", "localdomain", "internal", "intranet", "lan", "home", "corp", "private", "arpa"),
    *("svc", "test", "invalid", "onion", "alt"),
)
"""Top-level names that never lead into the public internet.

RFC 6761, 6762, 7686, 8375 and 9476, ICANN's reserved names, and Kubernetes' `NAME.NAMESPACE.svc`. `example` (RFC 6761)
leads nowhere at all, and documentation is full of it.
"""
_QUERY = "!$%&'()*+,/:;=?@[]^`{|}"
_NO_HOST = re.compile(r"[/?#@\\\x00-\x20\x7f]")


class InvalidUrl(LinklyError):
    """The address cannot be a link's target."""

    code = "INVALID_URL"


def canonical_host(text: str) -> str | None:
    """Return a host as browsers read it: lower case, punycode, addresses in their usual form, no dot at the end.

    Args:
        text: A name or an address, with or without a port: a `Host` header, an entry of a config. An IPv6 address may
            stand without its brackets.

    Returns:
        The host, `None` if the text is none.
    """
    if _NO_HOST.search(text):
        return None
    if text.count(":") > 1 and not text.startswith("["):
        text = f"[{text}]"
    try:
        return URL(f"http://{text}").hostname.removesuffix(".") or None
    except ValueError:
        return None


def check_url(given: str, *, own_hosts: Collection[str] = (), allow_private: bool = False) -> str:
    """Return the address a link leads to; one without a scheme gets `https://`.

    Args:
        given: As somebody typed it.
        own_hosts: Hosts of this shortener, as `canonical_host` writes them: a link to itself would go round in circles.
        allow_private: Allow targets in this machine and its networks.

    Raises:
        InvalidUrl: It is no http(s) address, leads where no link may lead, or would do harm in a `Location` header.
    """
    if not given or len(given) > MAX_CHARACTERS:
        raise _wrong_length(len(given))
    unseen = _UNSEEN.search(given)
    if unseen is not None:
        raise InvalidUrl(
            f"url has white space, control or invisible characters in it (U+{ord(unseen[0]):04X} at character "
            f"{unseen.start() + 1}); percent-encode them"
        )
    if "\\" in given:
        raise InvalidUrl("url has a backslash in it, which browsers take for a slash; write `/` or `%5C`")
    if not _SCHEME.match(given) and _OTHER_SCHEME.match(given):
        if given.lower().startswith(("http:", "https:")):
            raise InvalidUrl(f"url {_shown(given)} needs two slashes after its scheme, as in https://example.com")
        raise InvalidUrl(f"url has scheme `{given.split(':', 1)[0][:32]}`; allowed: http, https")
    url = given if _SCHEME.match(given) else f"https://{given}"
    if not _authority(url):
        raise InvalidUrl(f"url {_shown(given)} has no host")
    try:
        parsed = URL(url)
    except ValueError as error:
        raise InvalidUrl(f"url {_shown(given)} is malformed: its host or its port cannot be read") from error
    if parsed.username or parsed.password or "@" in _authority(url):
        raise InvalidUrl("url carries a user name or a password; links are public")
    host = parsed.hostname.removesuffix(".")
    if not host:
        raise InvalidUrl(f"url {_shown(given)} has no host")
    if "" in host.split(".") and not host.startswith("["):
        raise InvalidUrl(f"url {_shown(given)} has a host with two dots in a row or one at its start")
    if host in own_hosts:
        raise InvalidUrl(f"url leads to `{host}`, which is this shortener itself")
    if not allow_private:
        _check_public(host)
    kept = url if url.isascii() else parsed.href
    if len(kept) > MAX_CHARACTERS:  # percent-encoded, a letter has up to twelve
        raise _wrong_length(len(kept))
    return kept


def with_query(url: str, query: str) -> str:
    """Return an address with a request's query behind its own.

    Args:
        url: A link's target, as `check_url` returned it.
        query: As it came in a request, not decoded; what has no place in a `Location` header is percent-encoded.
    """
    rest, hash_sign, fragment = url.partition("#")
    between = "?" if "?" not in rest else "" if rest.endswith(("?", "&")) else "&"
    return f"{rest}{between}{quote(query, safe=_QUERY, encoding='latin-1', errors='replace')}{hash_sign}{fragment}"


def _check_public(host: str) -> None:
    address = address_in(host)
    if address is None:
        if "." not in host or host.rsplit(".", 1)[1] in _LOCAL_NAMES:
            raise InvalidUrl(f"url leads to `{host}`, a name of this machine or network; links lead to public hosts")
    elif not is_public(address):
        raise InvalidUrl(f"url leads to {address}, a private, loopback or reserved address; links lead to public hosts")


def _wrong_length(characters: int) -> InvalidUrl:
    return InvalidUrl(f"url has {characters} characters, percent-encoded; allowed: 1 to {MAX_CHARACTERS}")


def _authority(url: str) -> str:
    return re.split(r"[/?#]", url.split("//", 1)[1], maxsplit=1)[0]


def _shown(url: str) -> str:
    return repr(url if len(url) <= 100 else url[:97] + "...")
