"""Skadi beside fixed, trim & respond, PI, the best constant and the oracle: prints and plots them.

    .venv/bin/python benchmarks/control.py [--only REGEX] [--seeds 3] [--days 14] [--out FOLDER]

What it does stands in benchmarks/control_parts.py. This file shares its name with the package
`control`: a benchmark run as a script has this folder first on its path and would find this
file instead, so it hands the package over.
"""

import importlib
import sys
from pathlib import Path

if __name__ == "__main__":
    from control_parts import main

    sys.exit(main())

if __name__ == "control":
    before = sys.path[:]
    sys.path[:] = [p for p in before if Path(p).resolve() != Path(__file__).resolve().parent]
    del sys.modules["control"]
    importlib.import_module("control")  # the importer takes what stands in sys.modules
    sys.path[:] = before
