"""What a write makes of a value, as text, whichever way it is kept afterwards."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from linkly.errors import InvalidPayload
from linkly.invocation import Json
from linkly.schema import decode
from linkly_workers._update_ops import Operation, OperationError, apply
from linkly_workers.state.errors import UpdateFailed, ValueTooLarge
from linkly_workers.state.shapes import SetRequest


class Changes:
    """Makes texts of new values; `max_value_bytes`: longer ones are refused."""

    def __init__(self, max_value_bytes: int | None) -> None:
        self._max_value_bytes = max_value_bytes

    def text_of(self, request: SetRequest) -> bytes:
        """Return the value that `state::set` was given.

        Raises:
            InvalidPayload: There is none, or it has a number no JSON reader could read back.
            ValueTooLarge: It is longer than the configured limit.
        """
        value = request.value if request.value is not msgspec.UNSET else request.data
        if value is msgspec.UNSET:
            raise InvalidPayload("Failed to deserialize input for function `state::set`: missing field `value`")
        data = self._check_size(request.key, bytes(value))  # a copy: the value pins the frame it came in
        try:
            decode(data)
        except InvalidPayload as error:
            raise InvalidPayload(
                f"Failed to deserialize input for function `state::set`: {error.message} - at `$.value`"
            ) from error
        return data

    def updating(
        self, scope: str, key: str, ops: list[Operation], errors: list[OperationError]
    ) -> Callable[[bytes | None], bytes]:
        """Return the change that `state::update` makes; `errors` gets the operations that did nothing.

        The change raises `UpdateFailed` if the value so far cannot be changed, `ValueTooLarge` if the outcome is.
        """

        def change(old: bytes | None) -> bytes:
            try:
                value, errors[:] = apply(old, ops)
                data = msgspec.json.encode(value)
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                raise UpdateFailed(f"the value of {scope}/{key} cannot be changed: {error}") from error
            return self._check_size(key, data)

        return change

    def _check_size(self, key: str, data: bytes) -> bytes:
        limit = self._max_value_bytes
        if limit is not None and len(data) > limit:
            raise ValueTooLarge(
                f"the value of `{key}` has {len(data)} bytes, max_value_bytes is {limit}",
                details={"bytes": len(data), "max_value_bytes": limit},
            )
        return data


def value_of(data: bytes | None) -> Json | None:
    """Return a stored text as it is answered."""
    return None if data is None else Json(data)
