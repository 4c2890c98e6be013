"""Receipts are UUIDs, and those that are made later are greater."""

import time
import uuid

from linkly.receipts import new_receipt


def test_a_receipt_is_a_uuid_of_version_7():
    receipt = uuid.UUID(new_receipt())
    assert (receipt.version, receipt.variant) == (7, uuid.RFC_4122)
    assert abs((receipt.int >> 80) - time.time() * 1000) < 60_000


def test_receipts_grow_with_time_and_differ(monkeypatch):
    made = []
    for milliseconds in (1_700_000_000_000, 1_700_000_000_001, 1_800_000_000_000):
        monkeypatch.setattr(time, "time_ns", lambda now=milliseconds: now * 1_000_000)
        made.append({new_receipt() for _ in range(1000)})
    assert [len(each) for each in made] == [1000] * 3
    assert max(made[0]) < min(made[1])
    assert max(made[1]) < min(made[2])
