"""A real `linkly` process in a folder of its own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.engine_process import EngineProcess


@pytest.fixture
def linkly(tmp_path: Path, reserve_port: Callable[[], int]) -> Iterator[EngineProcess]:
    """A project with the shipped workers, on the same ports however often it starts; at the end it is killed."""
    (tmp_path / "config.yaml").write_text(
        "workers:\n"
        f"  - name: iii-worker-manager\n    config: {{port: {reserve_port()}}}\n"
        "  - name: state\n  - name: database\n"
        f"  - name: http\n    config: {{port: {reserve_port()}}}\n"
        "  - name: link\n"
    )
    engine = EngineProcess(tmp_path)
    yield engine
    engine.kill()
