"""Tests of the drivers, mostly against hand-written and independent peers."""
