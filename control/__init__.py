"""Every decision of the agent. Pure: no I/O, no clock, no chance that isn't passed in."""
