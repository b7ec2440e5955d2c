"""The keys of what others see and call: the MQTT mirror and the HTTP API.

Refuses what would let strangers in: an API beyond loopback without TLS and tokens, commands
that nobody in particular may send.
"""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from config.base import Name, Section
from config.secrets import SecretRef

Role = Literal["viewer", "operator", "engineer"]


class MqttSection(Section):
    """[mqtt]: the broker the agent mirrors its state to."""

    url: Annotated[str, Field(pattern=r"^mqtts?://[^/\s:@]+(:[0-9]+)?$")]
    username: str | None = None
    password: SecretRef | None = None
    ca_file: str | None = None
    base_topic: Annotated[str, Field(pattern=r"^[^#+\s/$][^#+\s$]*$")] = "skadi"
    per_point: bool = False  # beside one message a device a cycle: one a point, when it changes
    spool_mb: Annotated[int, Field(ge=0, le=100_000)] = 64  # on disk while the broker is away
    commands: bool = False
    principals: dict[Name, Role] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _somebody_may(self) -> Self:
        if self.commands and not self.principals:
            raise ValueError(
                'commands: say who may send them: principals = { NAME = "operator" }, and let the'
                " broker's ACL give topic .../command/NAME to that user alone"
            )
        return self


class ApiTokenSection(Section):
    """[[api.tokens]]: who may do what over HTTP, proven by a secret of at least 16 characters."""

    name: Name
    role: Role
    token: SecretRef


class ApiTlsSection(Section):
    """[api.tls]: the certificate the API shows, and its key (PEM files)."""

    cert_file: str
    key_file: str


class ApiSection(Section):
    """[api]: where the HTTP API listens. Beyond loopback only with TLS and tokens."""

    listen: Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}$")] = (
        "127.0.0.1:8790"
    )
    tokens: Annotated[tuple[ApiTokenSection, ...], Field(strict=False)] = ()
    tls: ApiTlsSection | None = None
    hosts: Annotated[tuple[str, ...], Field(strict=False)] = ()  # names it is reached by
    simulator_url: Annotated[str, Field(pattern=r"^https?://[^\s]+$")] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to listen on."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def loopback(self) -> bool:
        """True when only this host can reach it."""
        host = self.address[0]
        return (
            host == "localhost" or host == "::1" or bool(re.fullmatch(r"127(\.\d{1,3}){3}", host))
        )

    @model_validator(mode="after")
    def _not_exposed_bare(self) -> Self:
        names = [t.name for t in self.tokens]
        if twice := next((n for n in names if names.count(n) > 1), None):
            raise ValueError(f"tokens: {twice!r} stands twice; give each token its own name")
        if self.address[1] > 65_535:
            raise ValueError("listen: a port is at most 65535")
        if not self.loopback and (self.tls is None or not self.tokens):
            raise ValueError(
                f"listen: {self.listen} can be reached from other hosts: add [api.tls] and"
                " [[api.tokens]], or listen on 127.0.0.1 with a proxy in front"
            )
        return self
