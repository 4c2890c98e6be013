"""What can go wrong with a value; the codes are iii's (docs/workers.md#state)."""

from __future__ import annotations

from linkly.errors import LinklyError


class StoreError(Exception):
    """A store could not do what it was asked to: the disk is full, the store is closed. Its text is for people.

    It stays inside the worker: which of the codes below the caller sees depends on what was asked for.

    Args:
        text: What is wrong.
        retryable: The same may succeed soon.
    """

    def __init__(self, text: str, *, retryable: bool = False) -> None:
        super().__init__(text)
        self.retryable = retryable

    @property
    def details(self) -> dict[str, bool]:
        """What the caller is told beside the text."""
        return {"retryable": True} if self.retryable else {}


class SetFailed(LinklyError):
    """The store could not keep the value; the old one stays."""

    code = "SET_ERROR"


class GetFailed(LinklyError):
    """The store could not be read."""

    code = "GET_ERROR"


class DeleteFailed(LinklyError):
    """The store could not remove the value; it stays."""

    code = "DELETE_ERROR"


class UpdateFailed(LinklyError):
    """The store could not keep the outcome, or the value so far cannot be changed; it stays."""

    code = "UPDATE_ERROR"


class ListFailed(LinklyError):
    """The store could not be listed."""

    code = "LIST_ERROR"


class ListGroupsFailed(LinklyError):
    """The store's scopes could not be listed."""

    code = "LIST_GROUPS_ERROR"


class ValueTooLarge(LinklyError):
    """The value is larger than `max_value_bytes`; nothing was stored."""

    code = "VALUE_TOO_LARGE"


class RowTooLarge(LinklyError):
    """One entry alone is larger than the answer may be; `details` has its key, its size and a cursor behind it."""

    code = "ROW_TOO_LARGE"


class InvalidCursor(LinklyError):
    """The cursor was not made by this store for this scope."""

    code = "INVALID_CURSOR"
