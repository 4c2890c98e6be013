"""What is kept of a visitor: whether it says it is a bot, where it came from, and a keyed hash to tell two apart.

No address and no user agent is stored. The hash is keyed with a secret of this installation, so that nobody who reads
the table can try addresses out.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache, lru_cache
from importlib import resources

import msgspec
from ada_url import URL

AGENT_CHARACTERS = 512
"""Of longer user agents only the start is looked at."""


class _Crawler(msgspec.Struct):
    pattern: str
    tags: list[str] = []


@cache
def _bots() -> re.Pattern[str]:
    # The package's list without the package's module, which would keep its 3 MB of examples in memory.
    data = (resources.files("crawleruseragents") / "crawler-user-agents.json").read_bytes()
    known = msgspec.json.decode(data, type=list[_Crawler])
    # A library such as curl's says nothing of who uses it; programs that people run count as people.
    return re.compile("|".join(each.pattern for each in known if "http-library" not in each.tags))


@lru_cache(maxsize=4096)
def _is_bot(user_agent: str) -> bool:
    return _bots().search(user_agent) is not None


def is_bot(user_agent: str) -> bool:
    """Return whether a user agent says it is a crawler, a link preview or the like (list: crawler-user-agents).

    A new user agent costs 0.4 ms, a known one 0.2 us.
    """
    return _is_bot(user_agent[:AGENT_CHARACTERS])


@lru_cache(maxsize=4096)
def referrer_host(referer: str) -> str | None:
    """Return the host of a `Referer` header, `None` if there is none that can be read."""
    try:
        url = URL(referer)
    except ValueError:
        return None
    return url.hostname.removesuffix(".")[:255] or None if url.protocol in ("http:", "https:") else None


def visitor_hash(secret: bytes, client_host: str, user_agent: str) -> str:
    """Return 16 hexadecimal digits that are the same for the same address and user agent."""
    seen = f"{client_host}\n{user_agent[:AGENT_CHARACTERS]}".encode("utf-8", "replace")
    return hashlib.blake2b(seen, digest_size=8, key=secret[:64]).hexdigest()
