"""What a function answered -> the bytes of the response, without a socket."""

import pytest

from linkly import HttpResponse, Json
from linkly_workers.http.response import UnsendableResponse, reply


@pytest.mark.parametrize(
    "answered, body",
    [
        (b'{"status_code": 201, "body": {"n": 2.50, "text": "a, b: c"}}', b'{"n":2.50,"text":"a, b: c"}'),
        (b'{"n": 1}', b'{"n":1}'),
        (b"[1, 2e3]", b"[1,2e3]"),
        (b'{"body":{"n":1}}', b'{"n":1}'),
    ],
)
def test_json_written_with_spaces_keeps_its_numbers_as_written(answered, body):
    assert reply(Json(answered), "a::b").body == body


@pytest.mark.parametrize(
    "answered",
    [
        b"{",
        b'{"body": "\xff", "headers": {"content-type": "text/plain"}}',
        b'{"status_code": "\xff"}',
        b'{"headers": {"a": ' + b"[" * 100_000,
    ],
)
def test_a_body_wrongly_called_json_is_said_to_be_none(answered):
    with pytest.raises(UnsendableResponse, match="what `a::b` answered cannot be sent: it is no JSON"):
        reply(Json(answered), "a::b")


def test_names_of_headers_that_are_no_text_are_read_as_their_json():
    headers: dict[object, str] = {1: "x"}
    assert reply(HttpResponse(headers=headers), "a::b").headers[0] == (b"1", b"x")
    headers = {None: "x"}
    with pytest.raises(UnsendableResponse, match="no JSON"):
        reply(HttpResponse(headers=headers), "a::b")
