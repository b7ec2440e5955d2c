"""The process: composes the rest; owns tasks, files and time."""

import os

# Matrices here are small: threads of the linear algebra only get in each other's way. Read once,
# when numpy is first imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
