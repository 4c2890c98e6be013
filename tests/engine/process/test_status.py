"""The states of a child worker."""

import asyncio

import pytest

from linkly_engine.process.status import FOLLOWS, State, StatusKeeper


def test_a_state_that_may_not_follow_is_refused():
    keeper = StatusKeeper()
    with pytest.raises(RuntimeError, match="stopped does not become running"):
        keeper.enter(State.RUNNING)


def test_every_state_says_what_may_follow_it():
    assert set(FOLLOWS) == set(State)
    assert all(State.STOPPED in following for state, following in FOLLOWS.items() if state is not State.STOPPED)


async def test_an_outcome_is_a_lasting_state_after_the_attempt_that_was_asked_for():
    keeper = StatusKeeper()
    keeper.open = True
    keeper.enter(State.STARTING)
    waiting = asyncio.ensure_future(keeper.outcome())
    keeper.enter(State.WAITING)
    keeper.end()
    await keeper.tried()
    assert not waiting.done()
    keeper.enter(State.STARTING)
    keeper.enter(State.RUNNING)
    await waiting
