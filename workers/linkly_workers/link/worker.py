"""Short links: kept in the database, cached in state scope `links`, every click counted before its redirect.

The database is the truth. State is a cache in front of it: it is written after the database and a miss falls back.
A click is one transaction: a row in `clicks`, and `clicks = clicks + 1` on the link's row, in SQL, so that concurrent
clicks never overwrite each other.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

import msgspec

from linkly import HttpRequest, HttpResponse, Settings, Worker, function, http
from linkly.errors import HandlerFailed, LinklyError
from linkly_workers.link.codes import LENGTH, check_code, make_code
from linkly_workers.link.urls import InvalidUrl, check_url

SCOPE = "links"
ATTEMPTS = 20
NO_STORE = "private, no-store"

Code = Annotated[str, msgspec.Meta(examples=["demo"])]

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS links (code TEXT PRIMARY KEY, url TEXT NOT NULL, created_at TEXT NOT NULL, "
    "clicks INTEGER NOT NULL DEFAULT 0)",
    "CREATE TABLE IF NOT EXISTS clicks (id INTEGER PRIMARY KEY AUTOINCREMENT, code TEXT NOT NULL, "
    "clicked_at TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS clicks_by_code ON clicks (code, clicked_at)",
)


class CodeTaken(LinklyError):
    """The chosen code leads somewhere already."""

    code = "CODE_TAKEN"


class LinkSettings(Settings):
    """Settings of the link shortener.

    Attributes:
        db: Database of the `database` worker.
    """

    db: str = "primary"


class Create(msgspec.Struct):
    """A link to make.

    Attributes:
        url: Where it leads; https:// is put in front of an address without a scheme.
        code: The short code; six random characters if it is left out.
    """

    url: Annotated[str, msgspec.Meta(examples=["https://example.com"])]
    code: str | None = None


class Link(msgspec.Struct):
    """A short link.

    Attributes:
        code: Its short code.
        url: Where it leads.
    """

    code: str
    url: str


class Resolved(msgspec.Struct):
    """Where a code leads, null if it leads nowhere."""

    url: str | None


class Click(msgspec.Struct):
    """A click to count.

    Attributes:
        code: The short code.
        clicked_at: RFC 3339 time; now if it is left out.
    """

    code: Code
    clicked_at: str | None = None


class LinkWorker(Worker):
    """Creates, resolves and counts short links."""

    name = "link"
    settings_type: ClassVar[type[Settings]] = LinkSettings
    settings: LinkSettings

    async def ready(self) -> None:
        """Make the two tables, and give tables of an older shape the counter."""
        await self._transaction([(statement, []) for statement in SCHEMA])
        columns = await self._query("SELECT name FROM pragma_table_info('links')", [])
        if "clicks" not in {row["name"] for row in columns}:
            await self._transaction(
                [
                    ("ALTER TABLE links ADD COLUMN clicks INTEGER NOT NULL DEFAULT 0", []),
                    (
                        "UPDATE links SET clicks = (SELECT COUNT(*) FROM clicks WHERE clicks.code = links.code)",
                        [],
                    ),
                ]
            )

    @function("link::create")
    async def create(self, request: Create) -> Link:
        """Make a short link; answered when it is on disk.

        Raises:
            InvalidUrl: The address cannot be a link's target.
            InvalidCode: The chosen code cannot be used.
            CodeTaken: The chosen code leads somewhere already.
        """
        url = check_url(request.url)
        if request.code is not None:
            code = check_code(request.code)
            if not await self._insert(code, url):
                raise CodeTaken(f"code `{code}` is taken; choose another or leave it out", details={"code": code})
        else:
            code = await self._insert_generated(url)
        await self.bus.trigger("state::set", {"scope": SCOPE, "key": code, "value": {"url": url}})
        return Link(code, url)

    @function("link::resolve")
    async def resolve(self, code: Code) -> Resolved:
        """Say where a code leads.

        Args:
            code: The short code.
        """
        cached = await self.bus.trigger("state::get", {"scope": SCOPE, "key": code})
        if cached is not None:
            return Resolved(cached["url"])
        rows = await self._query("SELECT url FROM links WHERE code = ?", [code])
        if not rows:
            return Resolved(None)
        await self.bus.trigger("state::set", {"scope": SCOPE, "key": code, "value": {"url": rows[0]["url"]}})
        return Resolved(rows[0]["url"])

    @function("link::record_click")
    async def record_click(self, request: Click) -> dict[str, bool]:
        """Count a click; answered when it is on disk. Nothing is counted for a code that leads nowhere."""
        clicked_at = request.clicked_at or self._now()
        await self._transaction(
            [
                (
                    "INSERT INTO clicks (code, clicked_at) SELECT code, ? FROM links WHERE code = ?",
                    [clicked_at, request.code],
                ),
                ("UPDATE links SET clicks = clicks + 1 WHERE code = ?", [request.code]),
            ]
        )
        return {"recorded": True}

    @function("link::http_create", triggers=[http("POST", "/links")], metadata={"internal": True})
    async def http_create(self, request: HttpRequest) -> HttpResponse:
        """Make a short link from a JSON body: 201, 400 with the reason, 409 when the code is taken."""
        try:
            wanted = msgspec.convert(request.body if isinstance(request.body, dict) else {}, _CreateBody)
        except msgspec.ValidationError as error:
            return HttpResponse(status_code=400, body={"error": str(error)})
        if not wanted.url:
            return HttpResponse(status_code=400, body={"error": 'missing "url"'})
        try:
            link = await self.create(Create(wanted.url, wanted.code))
        except CodeTaken as error:
            return HttpResponse(status_code=409, body={"error": error.message})
        except LinklyError as error:
            if error.code not in (InvalidUrl.code, "INVALID_CODE"):
                raise
            return HttpResponse(status_code=400, body={"error": error.message})
        return HttpResponse(status_code=201, body=link)

    @function("http::redirect", triggers=[http("GET", "/s/:code")])
    async def redirect(self, request: HttpRequest) -> HttpResponse:
        """Answer with 302 to the link's target, after the click is counted; 404 for an unknown code."""
        code = request.path_params["code"]
        found = await self.bus.trigger("link::resolve", {"code": code}, result_type=Resolved)
        if found.url is None:
            return HttpResponse(status_code=404, body={"error": "link not found"})
        if request.method != "HEAD":
            await self.bus.trigger("link::record_click", {"code": code})
        return HttpResponse(status_code=302, headers={"Location": found.url, "Cache-Control": NO_STORE})

    async def _insert_generated(self, url: str) -> str:
        for attempt in range(ATTEMPTS):
            # Codes grow when the short ones run out, instead of failing.
            code = make_code(LENGTH + attempt // 4)
            if await self._insert(code, url):
                return code
        raise HandlerFailed(f"no free code found in {ATTEMPTS} attempts")

    async def _insert(self, code: str, url: str) -> bool:
        """Insert a link; the race for one code has one winner."""
        result = await self.bus.trigger(
            "database::execute",
            {
                "db": self.settings.db,
                "sql": "INSERT INTO links (code, url, created_at) VALUES (?, ?, ?) ON CONFLICT (code) DO NOTHING",
                "params": [code, url, self._now()],
            },
        )
        return bool(result["affected_rows"])

    async def _query(self, sql: str, params: list[Any]) -> list[dict[str, Any]]:
        result = await self.bus.trigger("database::query", {"db": self.settings.db, "sql": sql, "params": params})
        rows: list[dict[str, Any]] = result["rows"]
        return rows

    async def _transaction(self, statements: list[tuple[str, list[Any]]]) -> None:
        result = await self.bus.trigger(
            "database::transaction",
            {
                "db": self.settings.db,
                "statements": [{"sql": sql, "params": params} for sql, params in statements],
            },
        )
        if not result["committed"]:
            raise HandlerFailed(f"the database did not commit: {result['error']['message']}")

    def _now(self) -> str:
        now = datetime.fromtimestamp(self.bus.clock.time(), UTC)
        return now.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _CreateBody(msgspec.Struct):
    url: str | None = None
    code: str | None = None
