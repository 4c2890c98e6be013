"""The names by which the gateway is reached: this machine's, those of the settings, and those that workers declare.

A worker that knows its public address (link's `base_url` and `own_hosts`) declares it in its triggers' config, as
`origin` and `hosts`. So the gateway does not know the worker, a worker in another process declares it in the same way,
and the declaration goes with the binding.
"""

from __future__ import annotations

from collections.abc import Iterable

from linkly.origin import LOCAL_HOSTS, host_of, read_host, read_origin
from linkly_workers.http.trigger import HttpTrigger


class Hosts:
    """Names of the gateway.

    Args:
        listed: Hosts of the settings.

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
