"""Tests of the command line as people at a terminal meet it."""
