"""Whose frames are handled when: turns of the loop by hand, with a clock that is passed in."""

import pytest

from linkly_engine.remote.forwarding import PENDING_LIMIT
from linkly_engine.remote.small_reads import READ_BYTES, SmallReads
from linkly_engine.remote.turns import (
    FIRST_SLICE,
    FRAME_BYTES,
    FULL_BYTES,
    LARGEST_SLICE,
    LONG_TURN_S,
    MANY_CALLS,
    MANY_CALLS_STEP_S,
    SLICE_BYTES,
    Inbox,
    Turns,
)


class Loop:
    """A loop whose turns the test runs."""

    def __init__(self):
        self.now = 0.0
        self.soon, self.later = [], []
        self.turns = Turns(
            self.soon.append, lambda delay_s, callback: self.later.append((delay_s, callback)), self.time
        )

    def time(self):
        return self.now

    def turn(self, took_s=0.0):
        """Run what is due; the turn took so long."""
        self.now += took_s
        soon, self.soon[:] = list(self.soon), []
        for callback in soon:
            callback()

    def turns_until_idle(self):
        count = 0
        while self.soon:
            self.turn()
            count += 1
        return count


class Side:
    """A connection: its stream, and who takes its frames."""

    def __init__(self, loop, calls=(), handle=None):
        self.taken, self.reading, self.aborted = [], True, False
        self.handle = handle
        self.inbox = Inbox(self, self, loop.turns, lambda: len(calls))

    def frame_received(self, data, *, text):
        self.taken.append(data)
        if self.handle is not None:
            self.handle(data)

    def stream_closed(self, reason):
        self.taken.append(reason)

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    def abort(self):
        self.aborted = True

    def come(self, *frames):
        for data in frames:
            self.inbox.frame_received(data, text=True)


@pytest.fixture
def loop():
    return Loop()


FRAMES = [b"%d" % number for number in range(1000)]


def test_a_frame_of_a_calm_connection_is_handed_over_at_once(loop):
    side = Side(loop)
    side.come(b"1", b"2")
    assert side.taken == [b"1", b"2"]


def test_a_flooding_connection_keeps_no_other_waiting(loop):
    flooder, calm = Side(loop), Side(loop)
    flooder.come(*FRAMES)
    calm.come(b"mine")
    assert (len(flooder.taken), calm.taken) == (FIRST_SLICE, [b"mine"])
    assert loop.turns.frames_waiting == len(FRAMES) - FIRST_SLICE


def test_nothing_of_a_flood_is_lost_or_changes_places(loop):
    side = Side(loop)
    side.come(*FRAMES[:500])
    loop.turn()
    side.come(*FRAMES[500:])
    loop.turns_until_idle()
    assert side.taken == FRAMES
    assert loop.turns.frames_waiting == 0


def test_a_frame_that_comes_while_others_wait_does_not_overtake_them(loop):
    side = Side(loop)
    side.come(*FRAMES[:FIRST_SLICE], b"waits")
    loop.turns.number += 1  # this turn has taken nothing yet
    side.come(b"later")
    loop.turns_until_idle()
    assert side.taken == [*FRAMES[:FIRST_SLICE], b"waits", b"later"]


@pytest.mark.parametrize("text", [False, True])
def test_frames_that_come_together_are_handed_over_together_as_far_as_the_slice_goes(loop, text):
    side = Side(loop)
    inbox = Inbox(side, side, loop.turns, many=lambda frames: side.taken.append(list(frames)), text=text)
    inbox.frames_received(FRAMES[: FIRST_SLICE + 2])
    assert side.taken == [FRAMES[:FIRST_SLICE]]
    inbox.frame_received(b"another kind", text=not text)
    inbox.frames_received([b"behind", b"it"])
    loop.turns_until_idle()
    assert side.taken[1:] == [FRAMES[FIRST_SLICE : FIRST_SLICE + 2], b"another kind", [b"behind", b"it"]]


def test_slices_shrink_while_turns_are_long(loop):
    side = Side(loop)
    side.come(*FRAMES)
    sizes = []
    for took_s in [LONG_TURN_S * 2] * 8 + [LONG_TURN_S / 2] * 3:
        before = len(side.taken)
        loop.turn(took_s)
        sizes.append(len(side.taken) - before)
    assert sizes == [32, 16, 8, 4, 2, 1, 1, 1, 2, 4, 8]


def test_slices_have_a_largest_size(loop):
    side = Side(loop)
    side.come(*FRAMES * 5)
    largest = 0
    while loop.soon:
        before = len(side.taken)
        loop.turn()
        largest = max(largest, len(side.taken) - before)
    assert largest == LARGEST_SLICE


def test_a_slice_ends_with_the_frame_that_makes_it_large(loop):
    side = Side(loop)
    side.come(b"x" * SLICE_BYTES, b"next")
    assert len(side.taken) == 1
    loop.turn()
    assert side.taken[1:] == [b"next"]


def test_the_socket_is_left_unread_while_much_waits(loop):
    side = Side(loop)
    side.come(*FRAMES[:FIRST_SLICE])
    size = 1024 - FRAME_BYTES
    count = FULL_BYTES // 1024
    side.come(*[b"x" * size] * count)
    assert side.reading
    side.come(b"one more")
    assert not side.reading
    loop.turns_until_idle()
    assert side.reading


def test_the_end_of_a_stream_is_told_after_its_frames(loop):
    side = Side(loop)
    side.come(*FRAMES)
    side.inbox.stream_closed("gone")
    assert "gone" not in side.taken
    loop.turns_until_idle()
    assert side.taken == [*FRAMES, "gone"]


def test_a_frame_that_cannot_be_handled_ends_only_its_connection(loop, caplog):
    def handle(data):
        if data == b"bad":
            raise RuntimeError("a fault")

    bad, good = Side(loop, handle=handle), Side(loop)
    bad.come(*FRAMES[:FIRST_SLICE], b"bad")
    good.come(*FRAMES)
    loop.turns_until_idle()
    assert bad.aborted
    assert good.taken == FRAMES
    assert "a fault" in caplog.text


def test_an_end_that_cannot_be_handled_takes_nothing_from_the_others(loop, caplog):
    class Faulty(Side):
        def stream_closed(self, reason):
            raise RuntimeError("a fault")

    bad, good = Faulty(loop), Side(loop)
    bad.come(*FRAMES)
    good.come(*FRAMES)
    bad.inbox.stream_closed("gone")
    loop.turns_until_idle()
    assert bad.aborted
    assert good.taken == FRAMES
    assert "a fault" in caplog.text


def test_a_connection_with_very_many_answers_gets_one_frame_at_a_time(loop):
    calls = dict.fromkeys(range(MANY_CALLS + 1))
    side = Side(loop, calls)
    side.come(*FRAMES)
    for _ in range(3):
        loop.turns_until_idle()
        [(delay_s, wake)] = loop.later
        assert delay_s == MANY_CALLS_STEP_S
        loop.later.clear()
        wake()
    assert len(side.taken) == FIRST_SLICE + 3


def test_as_many_as_were_answered_may_follow(loop):
    calls = dict.fromkeys(range(MANY_CALLS + 100))
    side = Side(loop, calls)
    side.come(*FRAMES)
    loop.turn()
    before = len(side.taken)
    for number in range(20):
        del calls[number]
    loop.later.pop()[1]()
    loop.turn()
    assert len(side.taken) - before == 21


def test_a_socket_is_read_in_parts_of_bounded_size():
    class Buffered:
        def __init__(self):
            self.buffer, self.updates = memoryview(bytearray(10 * READ_BYTES)), []

        def get_buffer(self, sizehint):
            return self.buffer[100:]

        def buffer_updated(self, count):
            self.updates.append(count)

        def ignore(self, *arguments):
            pass

        connection_lost = eof_received = pause_writing = resume_writing = ignore

    protocol = Buffered()
    reads = SmallReads(protocol)
    part = reads.get_buffer(-1)
    part[0:1] = b"x"
    reads.buffer_updated(1)
    assert len(part) == READ_BYTES
    assert bytes(protocol.buffer[100:101]) == b"x"
    assert protocol.updates == [1]


def test_a_frame_that_may_overtake_does_not_wait_behind_others(loop):
    taken = []

    def overtake(data, *, text):
        if data.startswith(b"cancel"):
            taken.append(data)
            return True
        return False

    side = Side(loop)
    side.inbox = Inbox(side, side, loop.turns, int, overtake)
    for number in range(FIRST_SLICE + 10):
        side.inbox.frame_received(b"call %d" % number, text=False)
    side.inbox.frame_received(b"cancel 1", text=False)
    assert taken == [b"cancel 1"]
    loop.turns_until_idle()
    assert len(side.taken) == FIRST_SLICE + 10
    side.inbox.frame_received(b"cancel 2", text=False)  # no frame waits: it is taken in its order
    assert (taken, side.taken[-1]) == ([b"cancel 1"], b"cancel 2")


def test_who_waits_for_very_many_answers_is_slowed_down_before_he_is_refused():
    assert MANY_CALLS <= PENDING_LIMIT // 2
