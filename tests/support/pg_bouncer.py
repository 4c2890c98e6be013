"""PgBouncer in front of a server of `postgres_server`, which hands a connection to a client for one transaction."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.ports import reserved_port
from support.postgres_server import PostgresServer
from support.program import Program

MISSING = "there is no PgBouncer: install Debian's package `pgbouncer`"


def program() -> str | None:
    """Return where PgBouncer is, `None` if it is not installed."""
    return shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")


@contextmanager
def pooled(server: PostgresServer, size: int = 3) -> Iterator[str]:
    """Yield the url of a pooler with `size` connections, until the block ends."""
    found = program()
    assert found is not None, MISSING
    with reserved_port() as port:
        folder = Path(server.folder) / "bouncer"
        folder.mkdir(exist_ok=True)
        (folder / "users").write_text(f'"linkly" "{server.password}"\n')
        (folder / "ini").write_text(
            f"[databases]\npostgres = host=127.0.0.1 port={server.port}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = scram-sha-256\nauth_file = {folder}/users\npool_mode = transaction\n"
            f"default_pool_size = {size}\nmax_client_conn = 100\n"
        )
        for path in (folder, folder / "users", folder / "ini"):
            path.chmod(0o755)
        url = server.url.replace(f":{server.port}/", f":{port}/")
        bouncer = Program([*server.as_user, found, str(folder / "ini")], folder=Path("/"))
        try:
            bouncer.until("process up")
            yield url
        finally:
            bouncer.stop()
