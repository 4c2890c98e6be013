"""`/openapi.json`: valid, complete, and of the routes as they are now."""

import contextlib
from typing import Annotated, Literal

import httpx
import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from linkly import Function, HttpRequest, Worker, function, http
from linkly.http import Media
from linkly.schema import json_schema, read_settings
from linkly.testing import settle
from linkly.trigger import Binding
from linkly_workers.http import HttpSettings, HttpWorker
from linkly_workers.http.document import make_document
from linkly_workers.http.routes import RouteTable
from linkly_workers.http.schemas import COMPONENTS, Schemas
from linkly_workers.http.trigger import HttpTrigger

# The document is made of what the engine lists, whoever has registered it.
pytestmark = pytest.mark.transports("in process")


class Leaf(msgspec.Struct, tag="leaf"):
    """An end."""

    value: int


class Fork(msgspec.Struct, tag="fork"):
    """Two ways on."""

    left: "Leaf | Fork"
    right: "Leaf | Fork"


class Tree(msgspec.Struct):
    """A tree.

    Attributes:
        root: Where it begins.
    """

    root: Leaf | Fork


class Which(msgspec.Struct, kw_only=True):
    """Which trees.

    Attributes:
        size: How many.
    """

    kind: Literal["oak", "fir"]
    size: Annotated[int, msgspec.Meta(ge=1, le=9)] = 3
    after: str | None = None


class Forest(Worker):
    """Some routes that say much and one that says nothing."""

    name = "forest"

    @function(
        "forest::plant",
        triggers=[
            http("POST", "/trees/:id", summary="Plant", body=Tree, answers={201: Tree, 404: Leaf, 503: None}),
            http("PUT", "/trees/:id", body=Tree, answers={204: None}),
        ],
    )
    async def plant(self, request: HttpRequest) -> None:
        """Plant a tree."""

    @function(
        "forest::list", triggers=[http("GET", "/trees", query=Which, answers={200: (list[Tree], Media("image/png"))})]
    )
    async def list_trees(self, request: HttpRequest) -> None:
        """List trees."""

    @function("fog::any", triggers=[http("DELETE", "/trees/:other")])
    async def fog(self, request: HttpRequest) -> None:
        """Nobody knows."""


def operations(document):
    return {
        f"{method.upper()} {path}": operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }


def made(*routes, functions=None, **options):
    table = RouteTable()
    for number, declared in enumerate(routes):
        config = msgspec.convert(declared.config, HttpTrigger)
        binding = Binding(id=str(number), trigger_type="http", function_id=f"f::{number}", config=config)
        table.add(config.http_method, config.api_path, binding)
    document = msgspec.json.decode(msgspec.json.encode(make_document(list(table), functions or {}, **options)))
    OpenAPIV31SpecValidator(document).validate()
    return document


@pytest.fixture
def start(run):
    """Return what runs a gateway and workers; yields what reads the document, and the bus."""

    @contextlib.asynccontextmanager
    async def starting(*workers):
        gateway = HttpWorker(read_settings(HttpSettings, {"port": 0}, "$"))
        async with run(gateway, *workers) as bus, httpx.AsyncClient(verify=False) as client:
            await settle()

            async def read():
                response = await client.get(f"{gateway.url}/openapi.json")
                assert response.headers["content-type"] == "application/json"
                OpenAPIV31SpecValidator(response.json()).validate()
                return response.json()

            yield read, bus

    return starting


async def test_a_route_appears_with_what_it_and_its_function_say(start):
    async with start(Forest()) as (read, _):
        document = await read()
    found = operations(document)
    assert found.keys() == {"POST /trees/{id}", "PUT /trees/{id}", "DELETE /trees/{id}", "GET /trees"}
    plant = found["POST /trees/{id}"]
    assert (plant["summary"], plant["description"], plant["tags"]) == ("Plant", "Plant a tree.", ["forest"])
    assert found["PUT /trees/{id}"]["summary"] == "Plant a tree."
    assert plant["requestBody"] == {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/forest.Tree"}}},
    }
    assert {each["operationId"] for each in found.values()} == {
        "forest_plant_post_trees_id",
        "forest_plant_put_trees_id",
        "forest_list",
        "fog_any",
    }
    assert document["tags"] == [{"name": "fog"}, {"name": "forest"}]


async def test_every_route_of_the_link_worker_is_in_a_valid_document(shortener):
    async with shortener() as (client, _):
        document = (await client.get("/openapi.json")).json()
    OpenAPIV31SpecValidator(document).validate()
    assert operations(document).keys() == {
        "POST /links",
        "GET /links",
        "GET /links/{code}",
        "PUT /links/{code}",
        "DELETE /links/{code}",
        "GET /links/{code}/stats",
        "GET /links/{code}/qr",
        "GET /s/{code}",
        "GET /s/{code}/",
    }
    assert not [name for name in document["components"]["schemas"] if name[-2:] == "_2"]
    assert all(each.get("summary") for each in operations(document).values())


async def test_it_changes_when_a_route_comes_or_goes(start):
    async with start(Forest()) as (read, bus):
        before = await read()

        async def late(request: HttpRequest) -> None:
            """Come late."""

        bus.register_function(Function("late::one", late))
        registration = bus.register_trigger("late::one", http("GET", "/late"))
        await settle()
        assert (await read())["paths"].keys() == before["paths"].keys() | {"/late"}
        registration.unregister()
        await settle()
        assert await read() == before


def test_a_query_parameter_keeps_its_limits_and_is_never_null():
    parameters = operations(made(http("GET", "/", query=Which)))["GET /"]["parameters"]
    assert parameters == [
        {"name": "kind", "in": "query", "required": True, "schema": {"enum": ["fir", "oak"]}},
        {
            "name": "size",
            "in": "query",
            "required": False,
            "description": "How many.",
            "schema": {"type": "integer", "minimum": 1, "maximum": 9, "default": 3},
        },
        {"name": "after", "in": "query", "required": False, "schema": {"type": "string"}},
    ]


def test_a_status_that_the_gateway_answers_too_may_have_its_envelope():
    declared = http("GET", "/", condition="may", answers={200: Leaf, 404: Leaf, 422: Leaf, 503: None})
    responses = operations(made(declared))["GET /"]["responses"]
    leaf, envelope = {"$ref": "#/components/schemas/f.Leaf"}, {"$ref": "#/components/schemas/GatewayError"}
    schemas = {
        status: answer["content"]["application/json"]["schema"]
        for status, answer in responses.items()
        if "content" in answer
    }
    assert schemas == {"200": leaf, "404": leaf, "422": {"anyOf": [leaf, envelope]}, "503": envelope}
    assert responses["default"] == {"$ref": "#/components/responses/GatewayError"}


@pytest.mark.parametrize(
    "declared, options",
    [
        (http("GET", "/"), {}),
        (http("GET", "/", middleware=("m",), answers={200: Leaf}), {}),
        (http("GET", "/", answers={200: Leaf}), {"middleware": True}),
    ],
)
def test_where_nobody_says_what_is_answered_it_may_be_anything(declared, options):
    default = operations(made(declared, **options))["GET /"]["responses"]["default"]
    assert default["content"] == {"application/json": {"schema": {}}, "*/*": {}}


def test_a_success_that_is_not_documented_may_be_anything():
    responses = operations(made(http("GET", "/", answers={404: Leaf})))["GET /"]["responses"]
    assert "*/*" in responses["2XX"]["content"]


def test_the_request_schema_of_a_function_describes_a_body_without_one():
    request = {
        "type": "object",
        "properties": {"body": {"$ref": "#/definitions/Leaf"}},
        "definitions": {"Leaf": json_schema(Leaf)},
    }
    told = {("default", "f::0"): {"function_id": "f::0", "request_schema": request}}
    document = made(http("POST", "/a"), functions=told)
    assert operations(document)["POST /a"]["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/f.Leaf"
    }


def test_paths_that_differ_in_names_only_are_one():
    document = made(http("GET", "/a/:x"), http("PUT", "/a/:y"), http("GET", "/a/b"))
    assert document["paths"].keys() == {"/a/{x}", "/a/b"}
    assert operations(document)["PUT /a/{x}"]["parameters"][0]["name"] == "x"


def test_operation_ids_are_unique():
    table = RouteTable()
    for number, function_id in enumerate(["a::b", "a_b", "a.b"]):
        binding = Binding(id=str(number), trigger_type="http", function_id=function_id, config=HttpTrigger(api_path=""))
        table.add("GET", f"/{number}", binding)
    found = operations(make_document(list(table), {}))
    assert {each["operationId"] for each in found.values()} == {"a_b", "a_b_2", "a_b_3"}


def test_different_definitions_of_one_name_are_numbered_within_a_worker():
    schemas = Schemas()

    def schema(kind):
        return {"type": "array", "items": {"$ref": "#/$defs/Kind"}, "$defs": {"Kind": {"type": kind}}}

    kinds = ("string", "string", "integer")
    first, same, different = (schemas.add(schema(kind), "a") for kind in kinds)
    other = schemas.add(schema("string"), "b")
    assert first == same == {"type": "array", "items": {"$ref": COMPONENTS + "a.Kind"}}
    assert different["items"] == {"$ref": COMPONENTS + "a.Kind_2"}
    assert other["items"] == {"$ref": COMPONENTS + "b.Kind"}
    assert schemas.components["a.Kind_2"] == {"type": "integer"}


def test_definitions_that_differ_in_what_they_refer_to_are_numbered_too():
    def box(item):
        return {
            "$ref": "#/$defs/Box",
            "$defs": {"Box": {"properties": {"item": {"$ref": "#/$defs/Item"}}}, "Item": item},
        }

    schemas = Schemas()
    assert schemas.add(box({"type": "string"}), "a") == {"$ref": COMPONENTS + "a.Box"}
    assert schemas.add(box({"type": "integer"}), "a") == {"$ref": COMPONENTS + "a.Box_2"}
    assert schemas.components["a.Box_2"] == {"properties": {"item": {"$ref": COMPONENTS + "a.Item_2"}}}
    assert schemas.components["a.Item_2"] == {"type": "integer"}


def test_a_type_is_one_component_whether_it_stands_alone_or_inside_another():
    schemas = Schemas()
    schemas.add(json_schema(Tree), "a")
    schemas.add({"anyOf": [json_schema(list[Tree]), json_schema(Fork)]}, "a")
    assert schemas.components.keys() == {"a.Tree", "a.Leaf", "a.Fork"}
    root = schemas.components["a.Tree"]["properties"]["root"]
    assert root["discriminator"]["mapping"] == {"leaf": COMPONENTS + "a.Leaf", "fork": COMPONENTS + "a.Fork"}


def test_data_that_looks_like_a_schema_stays_as_it_is():
    data = {"$ref": "#/$defs/X", "title": "T", "properties": {}}
    schema = {
        "type": "object",
        "properties": {"$ref": {"type": "string"}, "default": {"default": data}},
        "enum": [data],
    }
    assert Schemas().add(schema, "a") == schema


def test_a_reference_that_leads_nowhere_means_anything():
    schemas = Schemas()
    assert schemas.add({"items": {"$ref": "#/$defs/Nowhere"}, "not": {"$ref": "https://else.where"}}, "a") == {
        "items": {},
        "not": {},
    }
    assert schemas.components == {}


def test_a_route_whose_answers_are_no_statuses_is_refused():
    config = {"api_path": "/", "openapi": {"answers": {"fine": {}}}}
    with pytest.raises(msgspec.ValidationError, match=r"regex .* `\$\.openapi\.answers`"):
        msgspec.convert(config, HttpTrigger)


@pytest.mark.parametrize("body", [{"properties": {"a": 7}, "$defs": 3, "items": [1]}, {"$ref": 5, "allOf": 7}])
def test_schemas_that_are_none_do_not_hide_the_other_routes(body):
    broken = http("POST", "/broken", answers={200: Leaf})
    broken.config["openapi"] = {"body": body, "query": {"required": 5, "properties": {"a": {"anyOf": [5]}}}}
    found = operations(made(broken, http("GET", "/whole", answers={200: Leaf})))
    assert found.keys() == {"POST /broken", "GET /whole"}
    assert "requestBody" not in found["POST /broken"]
    assert "200" in found["GET /whole"]["responses"]
