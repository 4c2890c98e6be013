"""How the url and the settings of a MySQL database are read."""

import pytest

from linkly_workers.database.backends import OneDatabase, TlsSettings
from linkly_workers.database.mysql.address import SCHEMES, address_of


def address(url, tls=None):
    # Not the settings of the worker: they ask the backend of the scheme, which asks this.
    settings = OneDatabase("sqlite::memory:")
    settings.url, settings.tls = url, None if tls is None else TlsSettings(**tls)
    return address_of(settings)


def refused(url, tls=None):
    with pytest.raises(ValueError, match=r"^(url|tls): ") as caught:
        address(url, tls)
    return str(caught.value)


@pytest.mark.parametrize("scheme", [*SCHEMES, "MYSQL"])
def test_every_scheme_that_people_paste_is_read(scheme):
    found = address(f"{scheme}://ann:s%2Fcret@db.example:3307/shop?ssl-mode=DISABLED")
    assert (found.hosts, found.user, found.password, found.database, found.ssl) == (
        [("db.example", 3307)],
        "ann",
        "s/cret",
        "shop",
        "disable",
    )


@pytest.mark.parametrize(
    "url, host",
    [
        ("mysql://localhost/d", ("localhost", 3306)),
        ("mysql://[::1]:1/d", ("::1", 1)),
        ("mysql://db.example/d?unix_socket=/run/my.sock", ("/run/my.sock", 3306)),
        ("mysql:///d?socket=%2Frun%2Fmy.sock", ("/run/my.sock", 3306)),
        ("mysql://ann@%2Frun%2Fmy.sock/d", ("/run/my.sock", 3306)),
    ],
)
def test_a_host_or_a_socket_is_read(url, host):
    assert address(url).hosts == [host]


@pytest.mark.parametrize(
    "url, tls, ssl, ca_cert",
    [
        ("mysql://localhost/d", None, "disable", None),
        ("mysql://127.0.0.1/d", None, "disable", None),
        ("mysql://db.example/d?unix_socket=/run/my.sock", None, "disable", None),
        ("mysql://db.example/d", None, "verify-ca", None),
        ("mysql://localhost/d", {}, "verify-ca", None),
        ("mysql://db.example/d", {"mode": "disable"}, "disable", None),
        ("mysql://db.example/d", {"mode": "verify-full", "ca_cert": "a.pem"}, "verify-full", "a.pem"),
        ("mysql://db.example/d?ssl_ca=a.pem", {"mode": "verify-full"}, "verify-full", "a.pem"),
        ("mysql://db.example/d?ssl-mode=REQUIRED", None, "require", None),
        ("mysql://db.example/d?sslMode=VERIFY_CA", None, "verify-ca", None),
        ("mysql://db.example/d?sslmode=verify-full", None, "verify-full", None),
        ("mysql://db.example/d?ssl_mode=required&ssl_ca=a.pem", None, "verify-ca", "a.pem"),
        ("mysql://localhost/d?ssl_ca=a.pem", None, "verify-ca", "a.pem"),
        ("mysql://localhost/d?ssl_cert=c.pem&ssl_key=k.pem", None, "verify-ca", None),
        ("mysql://localhost/d?ssl=true", None, "verify-ca", None),
        ("mysql://db.example/d?ssl=false", None, "disable", None),
        ('mysql://db.example/d?ssl={"rejectUnauthorized":true}', None, "verify-full", None),
        ("mysql://db.example/d?ssl=%7B%22rejectUnauthorized%22%3A%20false%7D", None, "require", None),
        ("mysql://db.example/d?sslaccept=strict", None, "verify-full", None),
        ("mysql://db.example/d?sslaccept=accept_invalid_certs", None, "require", None),
        ("mysql://db.example/d?ssl_verify_cert=true&ssl_verify_identity=true", None, "verify-full", None),
        ("mysql://db.example/d?ssl_verify_identity=true&ssl_verify_cert=true", None, "verify-full", None),
        ("mysql://db.example/d?ssl_verify_cert=false", None, "require", None),
    ],
)
def test_tls_is_on_unless_nothing_leaves_the_machine_or_the_url_says_it(url, tls, ssl, ca_cert):
    found = address(url, tls)
    assert (found.ssl, found.ca_cert) == (ssl, ca_cert)


def test_files_and_times_are_read():
    found = address("mysql://localhost/d?connect_timeout=3&ssl_cert=c.pem&ssl-key=k.pem&charset=utf8mb4")
    assert (found.connect_timeout_s, found.client_cert) == (3, ("c.pem", "k.pem"))


@pytest.mark.parametrize(
    "url, words",
    [
        ("mysql://localhost/d?local_infile=1", "`local_infile` is not a parameter that linkly knows"),
        ("mysql://localhost/d?connectTimeout=1", "`connectTimeout` is not a parameter that linkly knows"),
        ("mysql://localhost/d?ssl_cipher=x", "`ssl-cipher` is not a parameter that linkly knows"),
        ("mysql://localhost/d?sslMode=maybe", "`ssl-mode=maybe` is unknown; use one of DISABLED, REQUIRED"),
        ("mysql://localhost/d?ssl-mode=PREFERRED", "write REQUIRED or DISABLED"),
        ("mysql://localhost/d?ssl=maybe", "`ssl=maybe` is unknown; write `ssl-mode=REQUIRED`"),
        ("mysql://localhost/d?sslaccept=x", "`sslaccept=x` is not supported"),
        ("mysql://localhost/d?charset=latin1", "`charset=latin1` is not supported; allowed: utf8mb4"),
        ("mysql://localhost/d?connect_timeout=soon", "is no number of seconds"),
        ("mysql://localhost/d?unix_socket=my.sock", "is the path of a socket"),
        ("mysql://localhost/d?charset=utf8&charset=utf8mb4", "given twice"),
        ("mysql://localhost/d?ssl-mode=DISABLED&sslmode=disable", "given twice"),
        ("mysql://a,b/d", "names several hosts"),
        ("mysql://localhost", "names no database, as in mysql://user@host/database"),
        ("mariadb://localhost/", "names no database, as in mariadb://user@host/database"),
        ("mysql://localhost:0/d", "no number from 1 to 65535"),
        ("mysql:localhost", "is followed by `//`"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_its_name(url, words):
    assert words in refused(url)


def test_tls_is_said_in_one_place():
    for key in ("ssl-mode=REQUIRED", "sslMode=REQUIRED", "ssl=true", "sslaccept=strict", "ssl_verify_cert=1"):
        said = refused(f"mysql://db.example/d?{key}", {"mode": "verify-full"})
        assert f"the url says `{key.partition('=')[0]}` already; say it in one place" in said


@pytest.mark.parametrize("password", ["se/cret", "se:cret", "12/34"])
def test_no_error_tells_a_password_that_is_written_wrongly(password):
    said = refused(f"mysql://ann:{password}@localhost:x/d")
    assert "se" not in said.replace("password", "").replace("use", "").split()
    assert "cret" not in said
    assert "34" not in said


def test_the_url_that_is_shown_has_no_password():
    assert address("mysql://ann:secret@localhost:3307/shop").url == "mysql://ann@localhost:3307/shop"
    assert address("mysql://ann:secret@h/shop?unix_socket=/run/m").url == "mysql://ann@%2Frun%2Fm:3306/shop"
