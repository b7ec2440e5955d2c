"""The simulated hall: physics, workload and accounting. `Hall` is the plant."""

from simulators.hall.plant import Hall

__all__ = ["Hall"]
