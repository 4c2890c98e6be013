"""Workers in processes of their own, beside the engine.

Imported with the first of them. It knows neither config.yaml nor the command line, nor the language of a program.
"""

from linkly_engine.process.child import ChildWorker
from linkly_engine.process.guard import Guard
from linkly_engine.process.manifest import Manifest, read_manifest
from linkly_engine.process.status import ChildStatus

__all__ = ["ChildStatus", "ChildWorker", "Guard", "Manifest", "read_manifest"]
