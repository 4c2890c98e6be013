"""Where a path of the settings lies: relative ones begin at the folder of config.yaml, `~` is the home folder.

Until 0.1.0 they began at the working directory, so an engine started from elsewhere seemed to have lost its data.
Data that is found only under the working directory is still used, and a warning says so.
"""

from __future__ import annotations

import logging
from pathlib import Path


def expanded(written: str) -> Path:
    """Replace `~` and `~somebody`.

    Raises:
        ValueError: It cannot be known whose home that is, or there is a character in it that no path can have.
    """
    if "\0" in written:
        raise ValueError(f"{written!r}: no path can have the character NUL (\\0) in it")
    try:
        return Path(written).expanduser()
    except RuntimeError as error:
        raise ValueError(f"`{written}`: {error}") from error


def check_path(key: str, written: str) -> None:
    """Check a path of the settings, for their `__post_init__`.

    Raises:
        ValueError: As `expanded`; it names the key.
    """
    try:
        expanded(written)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error


def located(written: str, folder: Path, log: logging.Logger) -> Path:
    """Return the absolute path of data that a worker keeps.

    Args:
        written: As in the settings.
        folder: Of config.yaml.
        log: Warned if there is data where the path led before.

    Raises:
        ValueError: As `expanded`.
    """
    path = expanded(written)
    beside_config, before = (folder / path).absolute(), path.absolute()
    if path.is_absolute() or beside_config.resolve() == before.resolve() or not before.exists():
        return beside_config
    if beside_config.exists():
        log.warning(
            "`%s` is %s, beside the config; %s, in the working directory, is another one and is not used",
            *(written, beside_config, before),
        )
        return beside_config
    log.warning(
        "`%s` is used where older versions looked for it, in the working directory: %s. Stop the engine and move it to "
        "%s (of a database also the files whose names go on with -wal and -shm), or write its whole path in the config",
        *(written, before, beside_config),
    )
    return before
