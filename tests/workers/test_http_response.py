"""What a function answered -> the bytes of the response, without a socket."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def sent(result):
    """Return status, header lines and body as they are sent; what cannot be sent as text."""
    try:
        made = reply(result, "a::b")
    except UnsendableResponse as error:
        return str(error)
    return made.status, b"".join(b"%b: %b\r\n" % field for field in made.headers) + made.lines, made.body


TEXTS = st.sampled_from(["", " a b ", "text/plain", "a\tb", "a\r\nb: c", "\xe4", "\u20ac", "\x7f"]) | st.text(
    max_size=5
)
NAMES = st.sampled_from(["Location", "content-type", "Content-Type", "Date", "te", "a b", "\xe4", "X-A"]) | st.text(
    max_size=3
)
VALUES = TEXTS | st.lists(TEXTS, max_size=2)
BODIES = st.one_of(st.just(msgspec.UNSET), st.none(), st.integers(), TEXTS, st.dictionaries(TEXTS, TEXTS, max_size=2))


@given(
    st.sampled_from([200, 204, 205, 302, 304, 404, 999]) | st.integers(0, 1200),
    st.dictionaries(NAMES, VALUES, max_size=3) | st.lists(TEXTS, max_size=2),
    BODIES,
)
def test_a_response_of_this_process_is_sent_as_one_of_another_is(status, headers, body):
    response = HttpResponse(status_code=status, headers=headers, body=body)
    assert sent(response) == sent(Json(msgspec.json.encode(response)))
