"""New links: what is asked for is checked, a code is generated where none is chosen, the store keeps it."""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

from linkly.errors import HandlerFailed
from linkly_workers.link.codes import CodeMaker, check_code
from linkly_workers.link.shapes import Create, ImportLink
from linkly_workers.link.stores.store import CodeTaken, Idempotency, LinkStore, NewLink
from linkly_workers.link.times import Now, given_time
from linkly_workers.link.urls import check_url

ATTEMPTS = 40


class NewLinks:
    """Makes links."""

    def __init__(
        self,
        store: LinkStore,
        spelled: Callable[[str], str],
        now: Now,
        *,
        code_length: int,
        own_hosts: Collection[str],
        allow_private: bool,
    ) -> None:
        self._store = store
        self._spelled = spelled
        self._now = now
        self._codes = CodeMaker(code_length)
        self._own_hosts = frozenset(own_hosts)
        self._allow_private = allow_private

    def asked(self, request: Create | ImportLink, own_host: str | None = None) -> NewLink:
        """Return the link that a request asks for; its code is `""` if none is chosen.

        Raises:
            InvalidUrl: The address cannot be a link's target.
            InvalidCode: The chosen code cannot be used.
            InvalidArguments: `expires_at` lies outside the years 1 to 9999.
        """
        return NewLink(
            code="" if request.code is None else self._spelled(check_code(request.code)),
            url=self.check_url(request.url, own_host),
            created_at=self._now(),
            expires_at=None if request.expires_at is None else given_time(request.expires_at, "expires_at"),
            max_clicks=request.max_clicks,
        )

    def check_url(self, given: str, own_host: str | None = None) -> str:
        """Return the address a link leads to: see `urls.check_url`, and `Links.create` for `own_host`."""
        own_hosts = self._own_hosts if own_host is None else self._own_hosts | {own_host}
        return check_url(given, own_hosts=own_hosts, allow_private=self._allow_private)

    def with_code(self, link: NewLink) -> NewLink:
        """Return a link with a generated code, which may be taken."""
        return msgspec.structs.replace(link, code=self._codes.make())

    async def keep(self, link: NewLink, idempotency: Idempotency | None = None) -> NewLink:
        """Keep a link, without a code under one that is free; return it, or what an earlier request of this key made.

        Raises:
            CodeTaken: The chosen code leads somewhere already.
            KeyReused: The key came with another request before.
            HandlerFailed: No free code was found.
        """
        if link.code:
            return (await self._store.insert(link, idempotency)).link
        for _ in range(ATTEMPTS):
            try:
                made = await self._store.insert(self.with_code(link), idempotency)
            except CodeTaken:
                self._codes.tell(taken=True)
            else:
                self._codes.tell(taken=False)
                return made.link
        raise HandlerFailed(f"no free code found in {ATTEMPTS} attempts; set a larger code_length")
