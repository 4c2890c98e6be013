"""stdout and stderr of the command, whatever they are: a terminal, a pipe, a full disk, an old code page, closed.

What is asked for goes to stdout with `say`, everything else to stderr with `tell`. Both take every text: what the
stream's encoding lacks is written as JSON escapes, `\\u20ac`. Imports the interpreter's C modules only.
"""

from __future__ import annotations

import os
import sys
from _codecs import register_error

TYPE_CHECKING = False  # type checkers take this name for true; importing it from typing costs 5 ms
if TYPE_CHECKING:
    from typing import TextIO

ESCAPES = "linkly.escapes"
"""Name of the handler for characters that an encoding lacks."""


class OutputLost(Exception):
    """stdout does not take what was asked for.

    Attributes:
        unwanted: The reader has closed the pipe, as in `linkly functions | head`: this is no error.
    """

    def __init__(self, reason: str, *, unwanted: bool = False) -> None:
        super().__init__(
            f"stdout cannot be written: {reason}. What you asked for was done; only what it prints is lost"
        )
        self.unwanted = unwanted


def prepare() -> None:
    """Make the standard streams usable; call it before anything is opened.

    A closed descriptor from 0 to 2 is opened on /dev/null: else the next socket or file would get its number, and
    receive what is printed.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one
    if sys.stderr is None:  # typeshed does not know: it was closed when the interpreter started
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - lives as long as the process
    register_error(ESCAPES, _escaped)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=ESCAPES)


def say(text: str, *, end: str = "\n", flush: bool = False) -> None:
    """Print what was asked for.

    Raises:
        OutputLost: stdout does not take it.
    """
    if sys.stdout is None:
        raise OutputLost("it is closed")
    try:
        sys.stdout.write(text + end)
        if flush:
            sys.stdout.flush()
    except (OSError, ValueError) as error:
        raise _lost(error) from None


def tell(text: str) -> None:
    """Print what a person should know to stderr; if stderr cannot be written, the text is lost."""
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass


def finish() -> None:
    """Write what is buffered, while an error can still be reported.

    Raises:
        OutputLost: stdout does not take it.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError) as error:
        raise _lost(error) from None


def _lost(error: Exception) -> OutputLost:
    _discard(sys.stdout)
    reason = getattr(error, "strerror", None) or str(error)
    return OutputLost(reason, unwanted=isinstance(error, BrokenPipeError))


def _discard(stream: TextIO) -> None:
    """Redirect a stream to /dev/null, so that the interpreter can flush it when it ends."""
    try:
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, stream.fileno())
        os.close(sink)
    except (OSError, ValueError):
        pass


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4)), error.end
