"""How fast the target is, beside a target made from the SDK's template and beside a bare loop.

`make bench` runs all of it; `python -m benchmarks --help` says how to run a part.
"""

import sys
from pathlib import Path

# The tests know how to set up a database and a tap.
sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
