"""`Worker.composed_of`: functions of objects that a worker is composed of."""

from contextlib import asynccontextmanager

import pytest

from linkly import Worker, function
from linkly.errors import ConfigError
from linkly.function import function_ids_of, functions_of
from linkly.testing import running_engine
from linkly_engine.project.config import parse
from linkly_engine.project.loader import load_workers


class Till:
    """A part."""

    def __init__(self):
        self.taken = 0

    @function("shop::pay", aliases=["store::pay"])
    async def pay(self, amount: int) -> int:
        """Take an amount."""
        self.taken += amount
        return self.taken


class Shop(Worker):
    name = "shop"

    def __init__(self, settings=None):
        super().__init__(settings)
        self.till = Till()
        self.opened = False

    def composed_of(self):
        return (self.till,)

    @asynccontextmanager
    async def lifespan(self):
        self.opened = True
        yield

    @function("shop::is_open")
    async def is_open(self) -> bool:
        """Say whether it is open."""
        return self.opened


@pytest.mark.parametrize("wire", [False, True], ids=["in process", "wire"])
async def test_functions_of_parts_are_served_as_the_workers_own(wire):
    shop = Shop()
    async with running_engine(shop, wire=wire) as bus:
        assert await bus.trigger("shop::is_open") is True
        assert await bus.trigger("shop::pay", {"amount": 3}) == 3
        assert await bus.trigger("store::pay", {"amount": 4}) == 7
        assert shop.till.taken == 7


async def test_a_worker_may_have_a_function_called_parts():
    class Garage(Worker):
        name = "garage"

        @function("garage::parts")
        async def parts(self, car: str) -> list[str]:
            """Say what a car is made of."""
            return [f"{car} wheel"]

    async with running_engine(Garage()) as bus:
        assert await bus.trigger("garage::parts", {"car": "red"}) == ["red wheel"]


def test_ids_are_known_before_the_worker_is_opened():
    shop = Shop()
    assert function_ids_of(shop, *shop.composed_of()) == ["shop::is_open", "shop::pay", "store::pay"]
    assert [each.id for each in functions_of(shop, *shop.composed_of())] == ["shop::is_open", "shop::pay", "store::pay"]
    assert not shop.opened


def test_two_workers_of_a_file_whose_parts_serve_the_same_id_are_refused(tmp_path):
    (tmp_path / "two_with_parts.py").write_text(
        "from linkly import Worker, function\n"
        "class Part:\n"
        "    @function('same::id')\n"
        "    async def same(self) -> None:\n        ...\n"
        "class One(Worker):\n    name = 'one'\n    def composed_of(self):\n        return [Part()]\n"
        "class Two(One):\n    name = 'two'\n"
    )
    config = parse("workers:\n  - module: two_with_parts:One\n  - module: two_with_parts:Two\n", "config.yaml", {})
    config.folder = tmp_path
    with pytest.raises(ConfigError, match="`same::id` is served by"):
        load_workers(config)
