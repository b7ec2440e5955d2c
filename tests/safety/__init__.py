"""Proofs of the promises: what Skadi may never do, tried from every side."""
