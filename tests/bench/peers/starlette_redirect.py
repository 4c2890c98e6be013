"""A redirect that nobody counts, and a route that answers JSON, with Starlette."""

from asgi_server import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

LINKS = {"a": "https://a.example"}


async def redirect(request: Request) -> Response:
    target = LINKS.get(request.path_params["code"])
    if target is None:
        return JSONResponse({"error": "link not found"}, 404)
    return RedirectResponse(target, 302, {"Cache-Control": "private, no-store"})


async def hello(request: Request) -> Response:
    return JSONResponse({"message": "hello"})


serve(Starlette(routes=[Route("/s/{code}", redirect, methods=["GET"]), Route("/hello", hello)]))
