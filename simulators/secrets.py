"""The simulated devices' credentials: taken from the environment, or well-known defaults.

They guard nothing but loopback simulators; the site file refers to them by environment
variable, as a real one does.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

ENV_COMMUNITY: Final = "SKADI_SNMP_COMMUNITY"
ENV_AUTH: Final = "SKADI_SNMP_AUTH"
ENV_PRIV: Final = "SKADI_SNMP_PRIV"
_DEFAULTS: Final = {
    ENV_COMMUNITY: "skadi-sim",
    ENV_AUTH: "skadi-sim-auth",
    ENV_PRIV: "skadi-sim-priv",
}


@dataclass(frozen=True, slots=True)
class Secrets:
    """Community, and the v3 user with its passwords."""

    community: str
    v3_auth: str
    v3_priv: str
    v3_user: str = "skadi"

    def environment(self) -> dict[str, str]:
        """Return the variables a client has to set."""
        return {
            ENV_COMMUNITY: self.community,
            ENV_AUTH: self.v3_auth,
            ENV_PRIV: self.v3_priv,
        }


def from_environment(environ: Mapping[str, str] | None = None) -> Secrets:
    """Return the secrets the environment names, defaults otherwise."""
    env = os.environ if environ is None else environ
    found = {name: env.get(name) or default for name, default in _DEFAULTS.items()}
    return Secrets(found[ENV_COMMUNITY], found[ENV_AUTH], found[ENV_PRIV])
