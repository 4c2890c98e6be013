"""A running engine on a free port, and a client that speaks the protocol by hand."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from linkly.testing import ManualClock
from support.raw_client import EngineUnderTest
from support.serving import serving


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def bus_engine(clock: ManualClock) -> AsyncIterator[EngineUnderTest]:
    """An engine whose clock the test moves."""
    async with serving(clock=clock) as (engine, server), AsyncExitStack() as clients:
        yield EngineUnderTest(engine, server, clients)
