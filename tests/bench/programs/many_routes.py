"""A worker whose function has many routes, for the config of a benchmark: BENCH_ROUTES says how many."""

import os

from linkly import HttpRequest, HttpResponse, Worker, function, http

ROUTES = [http("GET", f"/r/{number:07}/:name") for number in range(int(os.environ["BENCH_ROUTES"]))]


class ManyRoutes(Worker):
    """Greets."""

    name = "many"

    @function("many::hello", triggers=ROUTES)
    async def hello(self, request: HttpRequest) -> HttpResponse:
        """Greet by name."""
        return HttpResponse(body={"message": request.path_params["name"]})
