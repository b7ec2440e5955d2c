"""The doors of a running agent beside the local one: events, the HTTP API, commands over MQTT.

Decides which of them a site has. Each is imported only where it is used, so that an agent
without an API does not carry one.
"""

import secrets
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from agent.alarms import AlarmDesk
from agent.api.views import Seen
from agent.commands import Inbox
from agent.core import Agent
from agent.events import Hub
from agent.mqtt.mirror import Mirror
from agent.polling import DeviceStats
from config.site import Site
from control.causes import Facts

if TYPE_CHECKING:
    from agent.api.auth import Tokens
    from agent.api.push import PushDoor
    from agent.api.server import Api
    from agent.history.service import History
    from agent.mqtt.command_link import CommandLink


class SurfaceError(Exception):
    """A door can't be opened. The message says why and what to do."""


class Surfaces:
    """`await start()` when the agent is about to run, `await stop()` before it gives back."""

    def __init__(
        self,
        agent: Agent,
        history: "History | None",
        mirror: Mirror | None,
        polls: dict[str, DeviceStats],
        environ: Mapping[str, str],
    ) -> None:
        site = agent.site
        self.hub = Hub(agent.clock, mirror.nonce if mirror else secrets.token_hex(8))
        self.api: Api | None = None
        self._environ = environ
        self._next: tuple[Tokens, PushDoor] | None = None
        self.commands: CommandLink | None = None
        agent.services.history = history
        self.alarms = AlarmDesk(agent, lambda: facts(agent, history, mirror, polls))
        agent.services.alarms = self.alarms
        agent.services.seen = Seen(
            agent=agent, clock=agent.clock, hub=self.hub, version=own_version(), history=history,
            mirror=mirror, polls=polls,
        )  # fmt: skip
        agent.listeners += [self.hub.listen, self.alarms.listen]
        if site.api is not None:
            self.api = _api(agent, self.hub, history, mirror, polls, environ)
        if site.mqtt is not None and site.mqtt.commands:
            from agent.mqtt import command_link

            root = f"{site.mqtt.base_topic}/{site.id}/{site.area}"
            inbox = Inbox(agent, self.hub.nonce, site.mqtt.principals)
            name = f"skadi-{site.id}-{site.area}-commands"
            self.commands = command_link.CommandLink(inbox, root, name, site.mqtt, environ)

    def prepare(self, site: Site) -> None:
        """Make what another version of the site needs here. Raises SurfaceError; changes nothing."""
        if self.api is None:
            return
        from agent.api.server import ApiError

        try:
            self._next = self.api.prepare(site, self._environ)
        except ApiError as error:
            raise SurfaceError(str(error)) from error

    def adopt(self) -> None:
        """Take over what `prepare` has made."""
        if self.api is not None and self._next is not None:
            self.api.adopt(*self._next)

    async def start(self) -> None:
        """Open. Raises SurfaceError."""
        if self.api is not None:
            from agent.api.server import ApiError

            try:
                await self.api.start()
            except ApiError as error:
                raise SurfaceError(str(error)) from error
        if self.commands is not None:
            self.commands.start()

    async def stop(self) -> None:
        """Close: nobody may change anything while the agent gives back."""
        if self.commands is not None:
            await self.commands.stop()
        if self.api is not None:
            await self.api.stop()


def facts(
    agent: Agent, history: "History | None", mirror: Mirror | None, polls: dict[str, DeviceStats]
) -> Facts:
    """What alarms rest on beside readings."""
    return Facts(
        silent={d: s.failing for d, s in polls.items()},
        devices=len(agent.site.devices),
        history_lost=history.status.lost if history else "",
        mqtt_lost=mirror is not None and not mirror.connected,
    )


def own_version() -> str:
    """The installed version."""
    try:
        return version("skadi")
    except PackageNotFoundError:
        return "unknown"


def _api(
    agent: Agent,
    hub: Hub,
    history: "History | None",
    mirror: Mirror | None,
    polls: dict[str, DeviceStats],
    environ: Mapping[str, str],
) -> "Api":
    from agent.api.server import Api, ApiError
    from agent.simulator import Simulator

    section = agent.site.api
    if agent.site.simulated and section is not None and section.simulator_url is not None:
        agent.services.scenario = Simulator(section.simulator_url).scenario
    try:
        return Api(agent, hub, own_version(), history, mirror, polls, environ)
    except ApiError as error:
        raise SurfaceError(str(error)) from error
