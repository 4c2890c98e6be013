"""Every worker's tests run in process and over the wire, native and JSON: it has to behave the same."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from linkly import Bus, Worker
from linkly.schema import read_settings
from linkly.testing import running_engine
from linkly_workers.state import StateSettings, StateWorker

Run = Callable[..., AbstractAsyncContextManager[Bus]]


@pytest.fixture(params=["in process", "native wire", "json wire"])
def run(request: pytest.FixtureRequest) -> Run:
    """Return what runs an engine with the workers given."""

    def start(*workers: Worker, **options: Any) -> AbstractAsyncContextManager[Bus]:
        wire, native = request.param != "in process", request.param != "json wire"
        return running_engine(*workers, wire=wire, native=native, **options)

    start.framing = {"native wire": "native", "json wire": "json"}.get(request.param)  # type: ignore[attr-defined]
    return start


@pytest.fixture(params=["memory", "file"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., StateWorker]:
    """Return what makes state workers, all over one store."""

    def make(**settings: Any) -> StateWorker:
        if request.param == "file":
            kv = {"store_method": "file_based", "file_path": str(tmp_path / "kv")}
            settings["adapter"] = {"name": "kv", "config": kv}
        return StateWorker(read_settings(StateSettings, settings, "$"))

    make.durable = request.param == "file"  # type: ignore[attr-defined]
    return make
