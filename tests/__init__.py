"""Tests of every package; peers and helpers live beside the tests that use them."""

import os

# Before numpy comes in: threads of the linear algebra only get in each other's way here.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
