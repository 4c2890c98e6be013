from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.ports import reserved_port

SLOW = ("bench", "compat/published", "integration", "repository/test_readme.py")
"""Published clients, kills and whole programs: CI runs them with one version of Python, the fast tests with all."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow."""
    for item in items:
        if item.path.relative_to(Path(__file__).parent).as_posix().startswith(SLOW):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Run every async test on the loop the product runs on."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def reserve_port() -> Iterator[Callable[[], int]]:
    """Return what finds a port that nobody else gets while the test runs."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(reserved_port())
