"""The simulated hall and its devices."""
