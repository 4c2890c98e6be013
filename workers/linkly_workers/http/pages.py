"""Paths that the gateway itself answers, and 404: rarely asked for, so a framework serves them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

PATHS = ("/healthz", "/readyz", "/openapi.json")

HOME = (
    "this is linkly's HTTP gateway, and it runs; no function has the route GET / yet: a trigger of type http "
    "gives it to one. What can be asked for is told by /openapi.json"
)


def pages(
    has_room: Callable[[], bool],
    troubles: Callable[[], Awaitable[list[str]]],
    document: Callable[[], Awaitable[bytes]],
) -> Starlette:
    """Return the ASGI app of what no route takes."""

    async def healthz(request: Request) -> Response:
        """Answer that the process lives: restarting it would not help."""
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> Response:
        """Answer whether requests are served, so that a balancer may send some."""
        if not has_room():
            return JSONResponse({"status": "overloaded"}, status_code=503, headers={"Retry-After": "1"})
        reasons = await troubles()
        if reasons:
            body = {"status": "not_ready", "reasons": reasons}
            return JSONResponse(body, status_code=503, headers={"Retry-After": "1"})
        return JSONResponse({"status": "ok"})

    async def openapi(request: Request) -> Response:
        """Return the OpenAPI document."""
        return Response(await document(), media_type="application/json")

    return Starlette(
        routes=[Route(path, page) for path, page in zip(PATHS, (healthz, readyz, openapi), strict=True)],
        exception_handlers={HTTPException: _refuse},
    )


async def _refuse(request: Request, error: Exception) -> Response:
    """Answer with the gateway's error envelope."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = error.detail if isinstance(error, HTTPException) else "internal error"
    code = detail.upper().replace(" ", "_")
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if "Allow" in headers:
        headers["Allow"] += ", OPTIONS"
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=headers)
    if status == 404 and request.url.path == "/":  # the first look of a new user
        detail = HOME
    return JSONResponse({"error": {"code": code, "message": detail}}, status_code=status, headers=headers)
