"""A hall in a terminal: what is known of it, and how it is drawn."""
