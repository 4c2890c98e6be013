"""Rolling deploys with published clients: when a program ends, the next one that offers the same serves its route."""

import signal

import pytest

from linkly import Client

VERSIONS = {"py16": "0.16.1", "py19": "0.19.7", "py22": "0.22.1", "py25": "0.25.0", "ours": "linkly", "node": "node"}

pytestmark = pytest.mark.compat


@pytest.fixture(scope="module")
async def linkly(new_linkly):
    return await new_linkly()


async def gone(linkly, name):
    """Wait until the engine knows that a program has ended."""

    async def is_gone(bus: Client):
        listed = await bus.trigger("engine::workers::list", {})
        return name not in {row["name"] for row in listed["workers"]}

    await linkly.until("engine::workers-available", is_gone, f"the end of {name}")


async def who_answers(linkly):
    page = await linkly.http.get("/replica")
    return page.status_code, page.json()


async def test_the_route_moves_on_from_program_to_program_of_every_version(linkly, command):
    programs = {}
    for name, version in VERSIONS.items():
        programs[name] = linkly.run_client(command(version, "replica", name))
        await linkly.until_there(f"{name}::ready")
    for number, (name, program) in enumerate(programs.items()):
        assert await who_answers(linkly) == (200, name)
        await program.ended(signal.SIGKILL if number % 2 else signal.SIGTERM)
        await gone(linkly, name)
    assert (await linkly.http.get("/replica")).status_code == 404
