"""Plants that a rehearsal runs on: the driver around them, their site, and EnergyPlus."""
