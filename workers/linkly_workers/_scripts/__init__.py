"""What a worker keeps in a database of the `database` worker: its `.sql` files, run over `database::*`.

Shared by workers, no worker itself. It knows no driver: what differs from one kind of database to another is in the
files.
"""

from linkly_workers._scripts.dialect import ROWS, Dialect, Statement, dialect
from linkly_workers._scripts.scripts import AN_HOUR_MS, Keeper, Scripts, Trigger, Unavailable, not_committed

__all__ = [
    "AN_HOUR_MS",
    "ROWS",
    "Dialect",
    "Keeper",
    "Scripts",
    "Statement",
    "Trigger",
    "Unavailable",
    "dialect",
    "not_committed",
]
