"""A worker of one's own."""

from linkly import HttpRequest, HttpResponse, Worker, function, http


class HelloWorker(Worker):
    """Greets people and remembers whom."""

    name = "hello"

    @function("hello::greet")
    async def greet(self, name: str = "world") -> str:
        """Greet somebody.

        Args:
            name: Who is greeted.
        """
        await self.bus.trigger(
            "state::update",
            {"scope": "greeted", "key": name, "ops": [{"type": "increment", "path": "times", "by": 1}]},
        )
        return f"hello {name}"

    @function("hello::page", triggers=[http("GET", "/hello/:name")])
    async def page(self, request: HttpRequest) -> HttpResponse:
        """Greet over HTTP."""
        text = await self.bus.trigger("hello::greet", {"name": request.path_params["name"]})
        return HttpResponse(headers={"content-type": "text/plain"}, body=text)
