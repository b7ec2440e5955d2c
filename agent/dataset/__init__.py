"""Public traces and a hall's history in one table."""
