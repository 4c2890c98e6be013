"""The environment of a worker's scripts (docs/workers.md#programs)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from linkly_engine.process.manifest import Manifest


def environment(
    manifest: Manifest,
    *,
    name: str,
    url: str,
    config: Any = None,
    config_path: Path | None = None,
    inherited: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return what the scripts of a worker see.

    The engine's environment, then the manifest's `env`, then the engine's own variables. The last wins, so that a
    manifest cannot send its worker to another engine. `python` is the engine's, which can import `linkly`.

    Args:
        manifest: Of the worker.
        name: Its name in config.yaml.
        url: Of the worker port.
        config: Its `config:` block, plain data.
        config_path: The config file.
        inherited: Default: the environment of this process.
    """
    variables = dict(os.environ if inherited is None else inherited)
    variables.setdefault("PYTHONUNBUFFERED", "1")
    for key in ("III_CONFIG_PATH", "LINKLY_WORKER_CONFIG"):
        variables.pop(key, None)  # those of an engine that started this one
    variables |= manifest.env
    variables["PATH"] = os.pathsep.join(
        [os.path.dirname(sys.executable) or os.defpath, variables.get("PATH") or os.defpath]
    )
    for key in ("III_URL", "III_ENGINE_URL", "LINKLY_URL"):
        variables[key] = url
    for key in ("III_WORKER_NAME", "LINKLY_WORKER_NAME"):
        variables[key] = name
    variables["III_ENGINE_PID"] = str(os.getpid())
    if config_path is not None:
        variables["III_CONFIG_PATH"] = str(config_path.absolute())
    if config is not None:
        variables["LINKLY_WORKER_CONFIG"] = json.dumps(config, default=str)
    return variables
