"""Requests that a browser makes for pages of other origins are refused before a function sees them (SECURITY.md).

A browser on this machine reaches what strangers do not, on behalf of every page that it shows. Its requests name the
page that asks (`Origin`) and the host that it asked for (`Host`). Programs send no marks of a browser: they are not
judged.
"""

from __future__ import annotations

from collections.abc import Iterable

from linkly.origin import LOCAL_HOSTS, host_of, read_host, read_origin
from linkly_workers.http.cors import Cors
from linkly_workers.http.response import Reply, error_reply
from linkly_workers.http.trigger import HttpTrigger

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_MARKS = frozenset(
    {"origin", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest", "sec-fetch-user", "accept-language"}
)
"""What browsers send and programs do not. The first five are left out where a page reads its own address over plain
HTTP (Fetch 3.2, Fetch Metadata 2), which is all that a page needs whose name was rebound to this machine; the language
is in every request that a user's browser sends, and cannot be taken out by a page. A headless one sends none then."""
_AGENT = "Mozilla/"
"""How every browser, headless or not, begins its `User-Agent`; curl and the HTTP libraries of languages do not."""


class Hosts:
    """The names by which the gateway is reached: this machine's, those of the settings, and those that workers declare.

    A worker that knows its public address (link's `base_url` and `own_hosts`) declares it in its triggers' config, as
    `origin` and `hosts`. So the gateway does not know the worker, a worker in another process declares it in the same
    way, and the declaration goes with the binding.

    Attributes:
        names: Hosts, without ports.
        authorities: Hosts, with their port where it is not the scheme's, whose pages are the gateway's own.
    """

    def __init__(self, listed: Iterable[str]) -> None:
        self._always = LOCAL_HOSTS.union(map(read_host, listed))
        self._declared: dict[str, HttpTrigger] = {}
        self.names = self._always
        self.authorities: frozenset[str] = frozenset()

    def declare(self, binding_id: str, config: HttpTrigger) -> None:
        """Take the names of a binding in place of those that it declared before."""
        if config.hosts or config.origin is not None:
            self._declared[binding_id] = config
            self._collect()
        else:
            self.forget(binding_id)

    def forget(self, binding_id: str) -> None:
        """Drop the names of a binding that is gone."""
        if self._declared.pop(binding_id, None) is not None:
            self._collect()

    def _collect(self) -> None:
        declared = self._declared.values()
        own = {read_origin(config.origin).partition("://")[2] for config in declared if config.origin is not None}
        hosts = {read_host(host) for config in declared for host in config.hosts}
        self.authorities = frozenset(own)
        self.names = self._always.union(hosts, map(host_of, own))


class BrowserRules:
    """Judges requests by their head."""

    def __init__(self, cors: Cors, hosts: Hosts) -> None:
        self._cors = cors
        self._hosts = hosts

    def misdirected(self, headers: dict[str, str]) -> Reply | None:
        """Return the refusal of a browser on this machine that takes the gateway for another host (DNS rebinding)."""
        if _MARKS.isdisjoint(headers) and not headers.get("user-agent", "").startswith(_AGENT):
            return None
        host = host_of(headers.get("host", ""))
        if host in self._hosts.names:
            return None
        text = (
            f"this gateway is not known as `{host}`; if it is reached by that name, list it in `allowed_hosts` of "
            "worker `http` (`base_url` and `own_hosts` of worker `link` count as well), or the proxy that is in front "
            "in `trusted_proxies`"
        )
        return error_reply(421, "MISDIRECTED_REQUEST", text)

    def foreign(self, method: str, origin: str, headers: dict[str, str]) -> Reply | None:
        """Return the refusal of a page that may not ask and uses a method that may change something."""
        if method in _SAFE or self._cors.admits(origin) or self._is_own(origin, headers.get("host", "")):
            return None
        setting = "`cors.allowed_origins` of worker `http`"
        if origin == "null":
            text = f"a page that hides where it comes from may not send {method} here; only `*` in {setting} admits it"
        else:
            text = f"a page of `{origin}` may not send {method} here; if it shall, list its origin in {setting}"
        return error_reply(403, "FORBIDDEN_ORIGIN", text)

    def _is_own(self, origin: str, host: str) -> bool:
        """Return whether a page is the gateway's own: its origin is the host it asks; a proxy may change the scheme."""
        scheme, _, authority = origin.partition("://")
        if not authority:
            return False
        came_to = host.lower().removesuffix(":443" if scheme == "https" else ":80")
        return authority == came_to or authority in self._hosts.authorities
