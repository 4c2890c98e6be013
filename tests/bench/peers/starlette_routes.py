"""Many routes with Starlette: `starlette_routes.py NUMBER`."""

import sys

from asgi_server import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


async def hello(request: Request) -> Response:
    return JSONResponse({"message": request.path_params["name"]})


serve(Starlette(routes=[Route(f"/r/{number:07}/{{name}}", hello) for number in range(int(sys.argv[1]))]))
