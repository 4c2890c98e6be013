"""The durable redirect with FastAPI and asyncpg: `fastapi_asyncpg_redirect.py URL POOL`; the tables are there.

One statement finds the link, counts, keeps the click and returns the target: one round trip, one commit, and no
transaction to begin. Statements stay compiled on their connections, which is asyncpg's default.
"""

import datetime
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from asgi_server import serve
from fastapi import FastAPI
from fastapi.responses import JSONResponse, RedirectResponse, Response

COUNT = """
WITH counted AS (UPDATE links SET clicks = clicks + 1 WHERE code = $1 RETURNING code, url),
clicked AS (INSERT INTO clicks (code, clicked_at) SELECT code, $2 FROM counted)
SELECT url FROM counted
"""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    size = int(sys.argv[2])
    async with asyncpg.create_pool(sys.argv[1], min_size=size, max_size=size) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/s/{code}")
async def redirect(code: str) -> Response:
    url = await app.state.pool.fetchval(COUNT, code, datetime.datetime.now(datetime.UTC))
    if url is None:
        return JSONResponse({"error": "link not found"}, 404)
    return RedirectResponse(url, 302, {"Cache-Control": "private, no-store"})


serve(app)
