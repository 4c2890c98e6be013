"""The durable redirect with FastAPI and aiosqlite: `fastapi_redirect.py FILE`, tables as in `redirect_tables.sql`.

One connection writes, under a lock: without it callers would share a transaction by accident, and one's rollback would
drop the others' clicks. The UPDATE finds the link, counts, and returns the target: no SELECT before.
"""

import asyncio
import datetime
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiosqlite
from asgi_server import serve
from fastapi import FastAPI
from fastapi.responses import JSONResponse, RedirectResponse, Response

COUNT = "UPDATE links SET clicks = clicks + 1 WHERE code = ? RETURNING url"
CLICK = "INSERT INTO clicks (code, clicked_at) VALUES (?, ?)"

writing = asyncio.Lock()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with aiosqlite.connect(sys.argv[1], isolation_level=None) as database:
        await database.execute("PRAGMA journal_mode = WAL")
        await database.execute("PRAGMA synchronous = FULL")
        app.state.database = database
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/s/{code}")
async def redirect(code: str) -> Response:
    database = app.state.database
    async with writing:
        await database.execute("BEGIN IMMEDIATE")
        try:
            found = await database.execute_fetchall(COUNT, (code,))
            if found:
                await database.execute(CLICK, (code, datetime.datetime.now(datetime.UTC).isoformat()))
            await database.execute("COMMIT")
        except BaseException:
            await database.execute("ROLLBACK")
            raise
    if not found:
        return JSONResponse({"error": "link not found"}, 404)
    return RedirectResponse(found[0][0], 302, {"Cache-Control": "private, no-store"})


serve(app)
