"""How the url and the settings of a PostgreSQL database are read."""

import sys

import pytest

from linkly.errors import ConfigError
from linkly.schema import read_settings
from linkly_workers.database import DatabaseSettings
from linkly_workers.database.backends import OneDatabase
from linkly_workers.database.postgres.address import address_of


def address(url, **more):
    return address_of(OneDatabase(url=url), None) if not more else address_of(read(url, **more))


def read(url, **more):
    settings = {"databases": {"primary": {"url": url, **more}}}
    return read_settings(DatabaseSettings, settings, "$").databases["primary"]


def refused(url, **more):
    with pytest.raises(ConfigError) as caught:
        read(url, **more)
    return caught.value.message


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg", "POSTGRES"])
def test_every_scheme_that_providers_hand_out_is_read(scheme):
    found = address(f"{scheme}://ann:s%2Fcret@db.example:6543/shop?sslmode=disable")
    assert (found.hosts, found.user, found.password, found.database) == (
        [("db.example", 6543)],
        "ann",
        "s/cret",
        "shop",
    )


def test_what_is_left_out_is_what_libpq_takes():
    found = address("postgres://localhost")
    assert (found.hosts, found.user, found.password, found.database) == ([("localhost", 5432)], None, None, None)


@pytest.mark.parametrize(
    "url, hosts",
    [
        ("postgres://a,b:1,[::1]:2/d?sslmode=disable", [("a", 5432), ("b", 1), ("::1", 2)]),
        ("postgres:///d?host=/run/pg&port=6000", [("/run/pg", 6000)]),
        ("postgres:///d?port=6000&host=/run/pg", [("/run/pg", 6000)]),
        ("postgres://%2Frun%2Fpg/d", [("/run/pg", 5432)]),
        ("postgres:///d?host=a,b&port=1,2&sslmode=disable", [("a", 1), ("b", 2)]),
    ],
)
def test_several_hosts_and_sockets_are_read(url, hosts):
    assert address(url).hosts == hosts


@pytest.mark.parametrize(
    "url, tls, ssl",
    [
        ("postgres://localhost/d", None, "disable"),
        ("postgres://127.0.0.1/d", None, "disable"),
        ("postgres://[::1]/d", None, "disable"),
        ("postgres:///d?host=/run/pg", None, "disable"),
        ("postgres://db.example/d", None, "verify-ca"),
        ("postgres://localhost,db.example/d", None, "verify-ca"),
        ("postgres://localhost/d", {}, "verify-ca"),
        ("postgres://db.example/d", {"mode": "disable"}, "disable"),
        ("postgres://db.example/d", {"mode": "verify-full"}, "verify-full"),
        ("postgres://db.example/d?sslmode=require", None, "require"),
        ("postgres://db.example/d?sslmode=require&sslrootcert=ca.pem", None, "verify-ca"),
        ("postgres://db.example/d?sslmode=prefer", None, "prefer"),
        ("postgresql+asyncpg://db.example/d?ssl=verify-full", None, "verify-full"),
        ("postgres://db.example/d?sslmode=require&channel_binding=require", None, "verify-full"),
        ("postgres://db.example/d?sslmode=require&channel_binding=prefer", None, "require"),
    ],
)
def test_tls_is_on_unless_nothing_leaves_the_machine(url, tls, ssl):
    assert address(url, **({} if tls is None else {"tls": tls})).ssl == ssl


def test_parameters_of_libpq_are_translated():
    found = address(
        "postgres://localhost/d?connect_timeout=3&application_name=shop&options=-csearch_path%3Da"
        "&target_session_attrs=read-write&sslcert=c.pem&sslkey=k.pem&keepalives=1&gssencmode=disable"
    )
    assert found.connect_timeout_s == 3
    assert found.server_settings == {"application_name": "shop", "options": "-csearch_path=a"}
    assert (found.session_attributes, found.client_cert) == ("read-write", ("c.pem", "k.pem"))


@pytest.mark.parametrize(
    "url, words",
    [
        ("postgres://localhost/d?statement_timeout=3", "`statement_timeout` is not a parameter that linkly knows"),
        ("postgres://localhost/d?sslmode=maybe", "`sslmode=maybe` is unknown; use one of disable, allow"),
        ("postgres://localhost/d?channel_binding=on", "`channel_binding=on` is not supported"),
        ("postgres://localhost/d?channel_binding=require", "needs TLS"),
        ("postgres://localhost/d?gssencmode=require", "`gssencmode=require` is not supported"),
        ("postgres://localhost/d?connect_timeout=soon", "is no number of seconds"),
        ("postgres://localhost/d?user=a&user=b", "given twice"),
        ("postgres://localhost:0/d", "no number from 1 to 65535"),
        ("postgres:localhost", "is followed by `//`"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_its_name(url, words):
    assert words in refused(url)


def test_tls_is_said_in_one_place():
    assert "say it in one place" in refused("postgres://db.example/d?sslmode=require", tls={"mode": "verify-full"})


@pytest.mark.parametrize("password", ["se/cret", "se:cret", "12/34"])
def test_no_error_tells_a_password_that_is_written_wrongly(password):
    said = refused(f"postgres://ann:{password}@localhost:x/d")
    assert "se" not in said.replace("password", "").replace("use", "").replace("databases", "").split()
    assert "cret" not in said
    assert "34" not in said


def test_the_url_that_is_shown_has_no_password():
    found = address("postgres://ann:secret@localhost:6543/shop?host=/run/pg&sslmode=disable")
    assert found.url == "postgres://ann@%2Frun%2Fpg:6543/shop"
    assert "secret" not in address("postgres:///d?password=secret").url


def test_a_missing_driver_is_told_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    message = "url: PostgreSQL needs a driver; install it with: pip install 'linkly[postgres]'"
    assert message in refused("postgres://localhost/d")


def test_a_direct_url_is_checked_like_the_url_and_needs_a_pooler():
    pooled = {"url": "postgres://ann@db.example/shop", "pooler": "transaction"}
    assert read(**pooled, direct_url="postgres://ann@db.example:6432/shop").direct_url
    assert "direct_url: `nonsense` is not a parameter" in refused(**pooled, direct_url="postgres://x/y?nonsense=1")
    assert "direct_url: it begins with `postgres://`" in refused(**pooled, direct_url="sqlite:./a.db")
    assert "`pooler` names none" in refused("postgres://x/y", direct_url="postgres://x/y")
    both = {"direct_url": "postgres://ann:secret@db.example/shop", "password_file": "secret.txt"}
    message = refused(**pooled, **both)
    assert "password_file: the url has a password as well" in message
    assert "ann:secret" not in message
