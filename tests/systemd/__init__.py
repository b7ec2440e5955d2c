"""Of the units that run Skadi on a host."""
