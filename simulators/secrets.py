"""The simulated devices' credentials: taken from the environment, or well-known defaults.

They guard nothing but loopback simulators; the site file refers to them by environment
variable, as a real one does. The token that operates an agent is random unless it is given.
"""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

ENV_COMMUNITY: Final = "SKADI_SNMP_COMMUNITY"
ENV_AUTH: Final = "SKADI_SNMP_AUTH"
ENV_PRIV: Final = "SKADI_SNMP_PRIV"
ENV_PUSH: Final = "SKADI_PUSH_TOKEN"
ENV_API: Final = "SKADI_API_TOKEN"
_DEFAULTS: Final = {
    ENV_COMMUNITY: "skadi-sim",
    ENV_AUTH: "skadi-sim-auth",
    ENV_PRIV: "skadi-sim-priv",
    ENV_PUSH: "skadi-sim-push-token",
}


@dataclass(frozen=True, slots=True)
class Secrets:
    """Community, the v3 user with its passwords, and the tokens of an agent's API."""

    community: str
    v3_auth: str
    v3_priv: str
    push: str
    api: str
    v3_user: str = "skadi"

    def environment(self) -> dict[str, str]:
        """Return the variables a client has to set."""
        return {
            ENV_COMMUNITY: self.community,
            ENV_AUTH: self.v3_auth,
            ENV_PRIV: self.v3_priv,
            ENV_PUSH: self.push,
            ENV_API: self.api,
        }


def from_environment(environ: Mapping[str, str] | None = None) -> Secrets:
    """Return the secrets the environment names, defaults otherwise."""
    env = os.environ if environ is None else environ
    found = {name: env.get(name) or default for name, default in _DEFAULTS.items()}
    api = env.get(ENV_API) or secrets.token_hex(16)
    return Secrets(found[ENV_COMMUNITY], found[ENV_AUTH], found[ENV_PRIV], found[ENV_PUSH], api)
