"""What a function answered -> the bytes of the response, without a socket."""

import pytest

from linkly import Json
from linkly_workers.http.response import reply


@pytest.mark.parametrize(
    "answered, body",
    [
        (b'{"status_code": 201, "body": {"n": 2.50, "text": "a, b: c"}}', b'{"n":2.50,"text":"a, b: c"}'),
        (b'{"n": 1}', b'{"n":1}'),
        (b"[1, 2e3]", b"[1,2e3]"),
        (b'{"body":{"n":1}}', b'{"n":1}'),
    ],
)
def test_json_written_with_spaces_is_answered_without_and_keeps_its_numbers_as_written(answered, body):
    assert reply(Json(answered)).body == body
