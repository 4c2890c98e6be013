"""Workers in processes of their own, beside the engine.

Imported with the first of them only. Knows the engine's tables; config.yaml, the command line and what a worker's
program is written in are not its business.
"""

from linkly_engine.process.child import ChildWorker
from linkly_engine.process.guard import Guard
from linkly_engine.process.manifest import Manifest, read_manifest
from linkly_engine.process.status import ChildStatus

__all__ = ["ChildStatus", "ChildWorker", "Guard", "Manifest", "read_manifest"]
