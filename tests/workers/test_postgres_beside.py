"""What goes out with the driver's writes, and that each gets its own part of what comes back."""

import pytest

from linkly_workers.database.postgres.beside import Beside, in_front, simple_query


def message(kind, body=b""):
    return kind + (len(body) + 4).to_bytes(4, "big") + body


READY, IN_TRANSACTION = message(b"Z", b"I"), message(b"Z", b"T")
ROWS = message(b"2") + message(b"D", b"a row with Z\0\0\0\5I in it") * 2 + message(b"C", b"SELECT 2\0") + READY
UNDONE = message(b"C", b"CLOSE CURSOR ALL\0") + message(b"T", b"t") + message(b"D", b"d") + message(b"C", b"RESET\0")
SETTING = message(b"S", b"TimeZone\0UTC\0")


async def heard(*chunks):
    """Return what the driver got of an answer, and whether what went behind has succeeded, if that is known."""
    beside, got = Beside(), []
    succeeded = beside.put_behind(simple_query("RESET ALL"))
    beside.written(b"the driver's")
    for chunk in chunks:
        beside.received(chunk, got.append)
    return b"".join(got), succeeded.result() if succeeded.done() else None


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 11, 40, 1000])
async def test_an_answer_is_told_apart_wherever_it_is_cut(size):
    whole = ROWS + UNDONE + READY + SETTING
    chunks = [whole[at : at + size] for at in range(0, len(whole), size)]
    assert await heard(*chunks) == (ROWS + SETTING, True)


async def test_what_may_come_at_any_time_is_for_the_driver():
    assert await heard(ROWS + UNDONE + SETTING + READY) == (ROWS + SETTING, True)


@pytest.mark.parametrize("end", [message(b"E", b"C57014\0\0") + READY, IN_TRANSACTION])
async def test_a_failure_and_an_open_transaction_are_no_success(end):
    assert await heard(ROWS + UNDONE + end) == (ROWS, False)


@pytest.mark.parametrize("size", [1, 6, 40, 1000])
async def test_each_answer_is_judged_by_itself(size):
    """Also where those before were all the same."""
    beside, got, judged = Beside(), [], []
    good, bad = UNDONE + READY, message(b"E", b"C57014\0\0") + READY
    for own in (good, good, bad, good, SETTING + good, good):
        succeeded = beside.put_behind(simple_query("RESET ALL"))
        beside.written(b"the driver's")
        whole = ROWS + own
        for at in range(0, len(whole), size):
            beside.received(whole[at : at + size], got.append)
        judged.append(succeeded.result())
    assert judged == [True, True, False, True, True, True]
    assert b"".join(got) == ROWS * 5 + SETTING + ROWS


async def test_a_lost_connection_is_no_success():
    beside = Beside()
    succeeded = beside.put_behind(simple_query("RESET ALL"))
    beside.written(b"the driver's")
    beside.received(ROWS + UNDONE, lambda _: None)
    assert not succeeded.done()
    beside.lost()
    assert succeeded.result() is False


async def test_what_the_driver_never_wrote_takes_nothing_along():
    beside = Beside()
    succeeded = beside.put_behind(simple_query("RESET ALL"))
    beside.front = in_front("BEGIN")
    beside.take_back()
    assert succeeded.result() is False
    assert beside.written(b"another statement") == b"another statement"


async def test_one_write_carries_all():
    beside = Beside()
    beside.front = in_front("BEGIN")
    beside.put_behind(simple_query("RESET ALL"))
    written = [beside.written(b"first"), beside.written(memoryview(b"second"))]
    assert written == [in_front("BEGIN") + b"first" + simple_query("RESET ALL"), b"second"]
