"""Which addresses a link may lead to: a corpus of each kind, and the settings that move the border."""

import json
import unicodedata
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkly_workers.link.urls import MAX_CHARACTERS, InvalidUrl, canonical_host, check_url

DATA = Path(__file__).parent / "data"
HOSTILE = json.loads((DATA / "hostile_urls.json").read_text("utf-8"))
GOOD = json.loads((DATA / "good_urls.json").read_text("utf-8"))


def test_the_corpora_are_as_large_as_promised():
    assert len(set(HOSTILE)) >= 200
    assert len(set(GOOD)) >= 200


@pytest.mark.parametrize("url", HOSTILE, ids=lambda url: ascii(url)[:60])
def test_a_hostile_address_is_refused_with_a_reason(url):
    with pytest.raises(InvalidUrl) as refusal:
        check_url(url)
    assert refusal.value.code == "INVALID_URL"
    assert refusal.value.message.startswith("url ")


@pytest.mark.parametrize("url", GOOD, ids=lambda url: ascii(url)[:60])
def test_a_good_address_is_kept(url):
    kept = check_url(url)
    assert kept.isascii()
    assert kept.lower().startswith(("http://", "https://"))
    if url.isascii():
        assert kept in (url, f"https://{url}")
    assert check_url(kept) == kept


def test_a_character_newer_than_this_python_is_kept():
    # Letters, marks, numbers, punctuation and symbols: what is one of them stays one of them.
    named = [chr(point) for point in range(0x80, 0x110000) if unicodedata.category(chr(point))[0] in "LMNPS"]
    for start in range(0, len(named), 600):
        part = "".join(named[start : start + 600])
        assert check_url(f"https://example.com/{part}") == f"https://example.com/{quote(part)}"


def test_unprintable_characters_are_refused_with_every_version_of_unicode():
    for point in range(0x110000):
        unseen = unicodedata.category(chr(point)) in ("Cc", "Cs", "Zs", "Zl", "Zp")
        if unseen or point & 0xFFFE == 0xFFFE or 0xFDD0 <= point <= 0xFDEF or 0x202A <= point <= 0x202E:
            with pytest.raises(InvalidUrl, match=f"U\\+{point:04X} at character 22"):
                check_url(f"https://example.com/\u00e9{chr(point)}x")


def test_what_unicode_has_not_named_yet_is_kept():
    for point in (0x0378, 0x1FAFF, 0x1FC00, 0x3FFFD):
        assert check_url(f"https://example.com/{chr(point)}") == f"https://example.com/{quote(chr(point))}"


@given(st.text(max_size=60))
def test_no_text_makes_it_fail_otherwise_or_gets_a_control_character_through(text):
    try:
        kept = check_url(text)
    except InvalidUrl:
        return
    assert kept.isascii()
    assert all(0x21 <= ord(letter) < 0x7F for letter in kept)


@pytest.mark.parametrize("url", ["http://127.0.0.1:3111/x", "http://localhost/", "http://[::1]/", "http://nas.local"])
def test_private_targets_can_be_allowed(url):
    assert check_url(url, allow_private=True) == url


@pytest.mark.parametrize(
    "url", ["https://s.example/s/a", "http://S.Example", "https://s.example./", "s.example:8080/x"]
)
def test_the_shortener_itself_is_no_target(url):
    with pytest.raises(InvalidUrl, match="itself"):
        check_url(url, own_hosts={"s.example"})
    assert check_url("https://other.example", own_hosts={"s.example"})


@pytest.mark.parametrize(
    "text, host",
    [
        ("S.Example", "s.example"),
        ("s.example.", "s.example"),
        ("s.example.:3111", "s.example"),
        ("b\u00fccher.example", "xn--bcher-kva.example"),
        ("\u043a\u0442\u043e.\u0440\u0444", "xn--j1ail.xn--p1ai"),
        ("134744072", "8.8.8.8"),
        ("0x8.8.8.8:80", "8.8.8.8"),
        ("2606:4700:0:0::2222", "[2606:4700::2222]"),
        ("[2606:4700:0:0::2222]:80", "[2606:4700::2222]"),
        ("[:::::]", None),
        (":::::", None),
        ("s.example:99999", None),
        ("a@s.example", None),
        ("s.example/x", None),
        ("s.example?x", None),
        ("s.example#x", None),
        ("s.example\\x", None),
        ("s .example", None),
        ("s.example\x1f", None),
        ("", None),
        (".", None),
    ],
)
def test_a_host_has_one_form_however_it_is_spelled(text, host):
    assert canonical_host(text) == host


@given(st.text(max_size=40))
def test_no_text_makes_the_form_of_a_host_fail(text):
    host = canonical_host(text)
    assert host is None or host.isascii()


def test_the_length_is_that_of_the_address_as_it_is_sent():
    start = "https://a.example/"
    assert len(check_url(start + "x" * (MAX_CHARACTERS - len(start)))) == MAX_CHARACTERS
    assert len(check_url(start + "\U0001f600" * 600)) == len(start) + 12 * 600
    for url in (start + "\U0001f600" * 8000, start[8:] + "x" * (MAX_CHARACTERS - len(start) + 1)):
        assert len(url) <= MAX_CHARACTERS
        with pytest.raises(InvalidUrl, match="characters"):
            check_url(url)
