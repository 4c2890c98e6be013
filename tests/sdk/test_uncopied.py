"""Values that cross the bus as they are: only those that nobody can change, and that fit their hints."""

from typing import Annotated, Any

import msgspec
import pytest

from linkly import Json, Worker, function
from linkly.errors import InvalidPayload, InvalidResult
from linkly.testing import running_engine
from linkly.uncopied import uncopied


class Place(msgspec.Struct, frozen=True):
    town: str
    height: float | None = None


class Order(msgspec.Struct, frozen=True):
    item: str
    amount: int = 1
    paid: bool | None = None
    place: Place | None = None


class Parcel(msgspec.Struct, frozen=True):
    items: list[str]


class Basket(msgspec.Struct):
    item: str


class Counted(msgspec.Struct, frozen=True):
    amount: Annotated[int, msgspec.Meta(ge=1)]


class Described(msgspec.Struct, frozen=True):
    item: Annotated[str, msgspec.Meta(examples=["tea"])]


class Chain(msgspec.Struct, frozen=True):
    link: "Chain | None" = None


class Loose(msgspec.Struct, frozen=True, dict=True):
    item: str


@pytest.mark.parametrize(
    "hint", [Parcel, Basket, Counted, Chain, Loose, str, int, dict, list[Order], Any, Json, object, tuple[Order]]
)
def test_what_can_be_changed_or_has_limits_is_copied(hint):
    assert uncopied(hint) == {}


def test_each_frozen_struct_of_a_union_needs_no_copy():
    assert set(uncopied(Order | None)) == {Order}
    assert set(uncopied(Order)) == {Order}


@pytest.mark.parametrize("item, fits", [("tea", True), (["tea"], False), ("\ud800", False)])
def test_a_field_that_is_only_described_is_looked_at_like_any_other(item, fits):
    assert uncopied(Described)[Described](Described(item)) is fits


@pytest.mark.parametrize(
    "value, fits",
    [
        (Order("tea"), True),
        (Order("tea", 2, True, Place("Ulm", 478.0)), True),
        (Order("thé"), True),
        (Order("\ud800"), False),
        (Order(["tea"]), False),
        (Order("tea", True), False),
        (Order("tea", place={"town": "Ulm"}), False),
        (Order("tea", place=Place(["Ulm"])), False),
        (Order("tea", place=Place("Ulm", float("nan"))), False),
        (Order("tea", place=Place("Ulm", float("-inf"))), False),
        (Order("tea", place=Place("Ulm", 478)), False),
    ],
)
def test_a_value_that_does_not_fit_its_hints_is_no_copy_of_itself(value, fits):
    assert uncopied(Order)[Order](value) is fits


class Shop(Worker):
    """Takes and gives orders."""

    name = "shop"

    def __init__(self):
        super().__init__()
        self.seen: list[Any] = []
        self.answer: Any = Order("tea")

    @function("shop::order")
    async def order(self, order: Order) -> Order:
        """Take an order and answer one."""
        self.seen.append(order)
        return self.answer

    @function("shop::parcel")
    async def parcel(self, parcel: Parcel) -> Parcel:
        """Take a parcel and answer it."""
        self.seen.append(parcel)
        return parcel


async def test_a_frozen_struct_is_handed_on_as_it_is():
    shop, order = Shop(), Order("tea", 2)
    async with running_engine(shop) as bus:
        assert await bus.trigger("shop::order", order, result_type=Order) is shop.answer
        assert shop.seen[0] is order


@pytest.mark.parametrize("wire", [False, True])
async def test_who_asks_for_plain_data_gets_plain_data(wire):
    async with running_engine(Shop(), wire=wire) as bus:
        plain = {"item": "tea", "amount": 1, "paid": None, "place": None}
        assert await bus.trigger("shop::order", Order("milk")) == plain
        assert await bus.trigger("shop::order", plain) == plain
        assert msgspec.json.decode(await bus.trigger("shop::order", plain, result_type=Json)) == plain


@pytest.mark.parametrize("wire", [False, True])
async def test_a_struct_with_a_list_in_it_shares_nothing(wire):
    shop, parcel = Shop(), Parcel(["tea"])
    async with running_engine(shop, wire=wire) as bus:
        answer = await bus.trigger("shop::parcel", parcel, result_type=Parcel)
        parcel.items.append("milk")
        answer.items.append("salt")
        assert shop.seen == [Parcel(["tea"])]


@pytest.mark.parametrize("wire", [False, True])
@pytest.mark.parametrize("order", [Order(["tea"]), Order("\ud800"), Order("tea", place=Place("Ulm", float("inf")))])
async def test_a_struct_that_does_not_fit_its_hints_is_refused(wire, order):
    shop = Shop()
    async with running_engine(shop, wire=wire) as bus:
        with pytest.raises((InvalidPayload, InvalidResult)):
            await bus.trigger("shop::order", order)
    assert shop.seen == []


@pytest.mark.parametrize("wire", [False, True])
async def test_text_without_a_json_form_is_no_result_of_type_str(wire):
    shop = Shop()
    shop.answer = "\ud800"
    async with running_engine(shop, wire=wire) as bus:
        with pytest.raises((InvalidPayload, InvalidResult)):
            await bus.trigger("shop::order", Order("tea"), result_type=str)


@pytest.mark.parametrize("wire", [False, True])
async def test_a_result_that_does_not_fit_its_hints_is_no_result_of_that_type(wire):
    shop = Shop()
    shop.answer = Order(["tea"])
    async with running_engine(shop, wire=wire) as bus:
        with pytest.raises((InvalidPayload, InvalidResult)):
            await bus.trigger("shop::order", Order("tea"), result_type=Order)
