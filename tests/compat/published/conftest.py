"""Published iii clients as programs, and a real `linkly` process that they connect to."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from support.project_with_clients import ProjectWithClients
from support.published_clients import installed_clients


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """One loop for a module's processes and its tests."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def command() -> Callable[..., list[str]]:
    """Tell how to run a program with a client: `command("0.16.1", "node" or "linkly", "client", argument ...)`."""
    return installed_clients()


@pytest.fixture(scope="module")
async def new_project() -> AsyncIterator[Callable[[Path], ProjectWithClients]]:
    """Make projects in folders that are there; at the end of the module whatever runs in them is stopped."""
    async with AsyncExitStack() as stack:

        def make(folder: Path) -> ProjectWithClients:
            linkly = ProjectWithClients(folder, stack)
            stack.push_async_callback(linkly.http.aclose)
            return linkly

        yield make


@pytest.fixture(scope="module")
def new_linkly(
    tmp_path_factory: pytest.TempPathFactory, new_project: Callable[[Path], ProjectWithClients]
) -> Callable[[], Awaitable[ProjectWithClients]]:
    """Make running engines."""

    async def make() -> ProjectWithClients:
        linkly = new_project(tmp_path_factory.mktemp("project"))
        linkly.write_config()
        await linkly.start()
        return linkly

    return make
