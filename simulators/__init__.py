"""A hall to rehearse on, and devices that speak the real protocols. Imports config only."""
