"""Every worker's tests run in process and over the wire, native and JSON: it has to behave the same."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from linkly import Bus, Worker
from linkly.testing import running_engine

Run = Callable[..., AbstractAsyncContextManager[Bus]]


@pytest.fixture(params=["in process", "native wire", "json wire"])
def run(request: pytest.FixtureRequest) -> Run:
    """Return what runs an engine with the workers given."""

    def start(*workers: Worker, **options: Any) -> AbstractAsyncContextManager[Bus]:
        wire, native = request.param != "in process", request.param != "json wire"
        return running_engine(*workers, wire=wire, native=native, **options)

    start.framing = {"native wire": "native", "json wire": "json"}.get(request.param)  # type: ignore[attr-defined]
    return start
