"""Tests of reports and explanations."""
