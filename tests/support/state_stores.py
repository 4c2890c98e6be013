"""The stores of state, by the names that tests have for them."""

import os

from support.mariadb_server import VARIABLES

URLS = {
    "database postgres": "postgres_url",
    "database mariadb": "mariadb_url",
    **({"database mysql": "real_mysql_url"} if VARIABLES["mysql"] in os.environ else {}),
}
"""The fixture that has the url, for those on a server."""

IN_A_DATABASE = ("database sqlite", *URLS)
KINDS = ("memory", "file", *IN_A_DATABASE)
