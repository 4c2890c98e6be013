"""The states of a writer."""

import pytest

from linkly_workers._sqlite import GroupCommitWriter
from linkly_workers._sqlite.states import MAY_FOLLOW, State


def test_every_state_leads_to_the_end_and_can_be_reached():
    assert set(MAY_FOLLOW) == set(State)
    for start in State:
        reached, new = set(), {start}
        while new - reached:
            reached |= new
            new = {after for state in reached for after in MAY_FOLLOW[state]}
        assert reached == set(State)


async def test_a_turn_that_is_still_held_when_the_writer_closes_is_over():
    async with GroupCommitWriter(":memory:") as writer:
        turn = await writer.turn()
    turn.end()
    with pytest.raises(Exception, match="is being closed"):
        await writer.execute("SELECT 1")
