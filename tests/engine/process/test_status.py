"""The states of a child worker."""

import asyncio

import pytest

from linkly_engine.process.status import FOLLOWS, ChildStatus, State


def test_a_state_that_may_not_follow_is_refused():
    status = ChildStatus()
    with pytest.raises(RuntimeError, match="stopped does not become running"):
        status.enter(State.RUNNING)


def test_every_state_says_what_may_follow_it():
    assert set(FOLLOWS) == set(State)
    assert all(State.STOPPED in following for state, following in FOLLOWS.items() if state is not State.STOPPED)


async def test_an_outcome_is_a_lasting_state_after_the_attempt_that_was_asked_for():
    status = ChildStatus()
    status.open = True
    status.enter(State.STARTING)
    waiting = asyncio.ensure_future(status.outcome())
    status.enter(State.WAITING)
    status.end()
    await status.tried()
    assert not waiting.done()
    status.enter(State.STARTING)
    status.enter(State.RUNNING)
    await waiting
