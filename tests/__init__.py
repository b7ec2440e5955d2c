"""Tests of every package; peers and helpers live beside the tests that use them."""
