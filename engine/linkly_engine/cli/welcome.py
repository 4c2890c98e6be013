"""What a person sees when the engine is up: workers, functions, addresses and what to try next."""

from __future__ import annotations

import shutil
import sys
import textwrap

from linkly_engine import __version__
from linkly_engine.engine import Engine
from linkly_engine.server import WorkerServer

INDENT = " " * 15
NO_BREAK = "\0"


def welcome(engine: Engine, servers: list[WorkerServer]) -> None:
    """Print it to stderr: stdout belongs to results."""
    width = shutil.get_terminal_size((100, 24)).columns
    lines = [f"linkly {__version__} is up", ""]
    addresses = [("workers connect to", server.url) for server in servers]
    for worker in engine.running:
        ids = sorted(
            {record.id for record in engine.registry if record.owner.name == worker.name and not record.internal}
        )
        ids += sorted(f"trigger type {kind.id}" for kind in engine.triggers.types if kind.owner.name == worker.name)
        # A line of the terminal breaks between two ids, never inside one.
        lines += textwrap.wrap(
            f"  {worker.name:<12} {', '.join(id_.replace(' ', NO_BREAK) for id_ in ids)}",
            width,
            subsequent_indent=INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        )
        addresses += [(f"{label} at", address) for label, address in worker.addresses().items()]
    lines.append("")
    lines += [f"  {label:<20} {address}" for label, address in addresses]
    lines += ["", "  try: linkly trigger engine::functions::list", "  stop: Ctrl-C", ""]
    print("\n".join(lines).replace(NO_BREAK, " "), file=sys.stderr, flush=True)
