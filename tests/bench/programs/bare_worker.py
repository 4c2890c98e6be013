"""A worker with one function behind one route, for the config of a benchmark."""

from linkly import HttpResponse, Worker, function, http


class BareWorker(Worker):
    """Says hello."""

    name = "bare"

    @function("bare::hello", triggers=[http("GET", "/hello")])
    async def hello(self) -> HttpResponse:
        """Say hello."""
        return HttpResponse(body={"message": "hello"})
