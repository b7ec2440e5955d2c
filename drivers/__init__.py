"""Field protocols, one module each, behind one small contract (drivers.contract)."""
