"""The controllers Skadi is measured against, on physics alone."""
