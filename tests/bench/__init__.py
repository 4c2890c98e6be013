"""What linkly costs beside what people would use in its place: `python -m tests.bench`.

A **row** (`rows/`) is one line of the table in docs/performance.md. It has **sides**: linkly and its peers, or, with
`--against`, linkly of this checkout and of another one. Every side is a program (`programs/`, `peers/`) that is open
during the whole row; the sides take turns (`rounds.py`), so that what else the machine does weighs on all alike. A turn
returns figures by name, with the unit in the name.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # what tests share is the package `support`
