"""A config.yaml on disk, read and written whole.

Two commands at a time do not lose each other's change (a lock on the folder), a reader never sees half a file (a new
file takes the place of the old one), and a text is written only when the engine would take it.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from linkly.errors import ConfigError
from linkly_engine.project.config import parse
from linkly_engine.project.edit.layout import Layout, missing_variables, read


def open_layout(path: Path) -> Layout:
    """Read a config file and find its entries.

    Raises:
        ConfigError: It does not exist, is not readable or not valid.
    """
    return _layout(path, _text(path))


def change(path: Path, decide: Callable[[Layout], Layout]) -> bool:
    """Change a config file.

    Args:
        path: The file; if it is a symbolic link, what that points to is written.
        decide: Old layout -> new layout. May be called with the file locked: it should not wait for anything.

    Returns:
        Whether the text has changed.

    Raises:
        ConfigError: The old text or the new one is not valid; the file is as it was.
    """
    target = path.resolve()
    with _locked(target.parent):
        before = _text(path)
        after = decide(_layout(path, before)).text
        if after == before:
            return False
        _check(path, after)
        write(target, after)
        return True


def write(target: Path, text: str) -> None:
    """Put a text in the place of a file, whole or not at all, with the mode of the old one.

    Raises:
        ConfigError: The folder cannot be written.
    """
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        try:
            mode = stat.S_IMODE(target.stat().st_mode)
        except FileNotFoundError:
            umask = os.umask(0)
            os.umask(umask)
            mode = 0o666 & ~umask
        Path(temporary).chmod(mode)
        Path(temporary).replace(target)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise ConfigError(f"{target}: cannot be written: {error.strerror or error}") from error


def _layout(path: Path, text: str) -> Layout:
    layout = read(text, str(path))
    _check(path, text)
    return layout


def _check(path: Path, text: str) -> None:
    """Judge a text as the engine would; variables that only the engine may know leave the structure to judge."""
    if not missing_variables(text, os.environ):
        parse(text, str(path))


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: there is no such file; `linkly project init .` makes a project here, `-c FILE` names another file"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text: {error}") from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # Windows: no lock on a folder; the file is still replaced whole
        yield
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
