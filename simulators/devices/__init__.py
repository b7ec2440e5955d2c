"""Servers of the simulated devices, one module a protocol. They share no codec with drivers/."""
