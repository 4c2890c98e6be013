"""Where the calls of HTTP requests enter: their socket."""

import httpx

from linkly import Worker, current, function, http
from linkly.schema import read_settings
from linkly.testing import running_engine, settle
from linkly_workers.http import HttpSettings, HttpWorker


class Origins(Worker):
    """Says where its calls entered."""

    name = "origins"

    @function("origins::outer", triggers=[http("GET", "/origin")])
    async def outer(self) -> list[str | None]:
        """Answer where this call and one inside it entered."""
        return [current().origin, await self.bus.trigger("origins::inner")]

    @function("origins::inner")
    async def inner(self) -> str | None:
        """Answer where this call entered."""
        return current().origin


async def test_every_socket_is_one_origin_of_calls():
    gateway = HttpWorker(read_settings(HttpSettings, {"port": 0}, "$"))
    async with running_engine(gateway, Origins()):
        await settle()
        async with httpx.AsyncClient(base_url=gateway.url) as one, httpx.AsyncClient(base_url=gateway.url) as two:
            first, again = (await one.get("/origin")).json(), (await one.get("/origin")).json()
            other = (await two.get("/origin")).json()
    assert first[0] == first[1] == again[0]
    assert other[0] == other[1]
    assert first[0] != other[0]
