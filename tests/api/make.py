"""A whole agent on the bundled hall, in virtual time, served over real sockets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp

from agent.alarms import AlarmDesk
from agent.api.server import Api
from agent.audit import read_entries
from agent.events import Hub
from agent.history.service import History
from agent.plants.site import plant_site
from agent.polling import DeviceStats
from agent.publish import Recording
from agent.rehearse import Rehearsal, Rehearsed, load_plant
from agent.surfaces import facts
from config.addresses import NamedAddress
from config.schema import HistorySection
from config.secrets import SecretRef
from config.site import Device, Point, Site
from config.surfaces import ApiSection, ApiTokenSection

ENVIRON = {
    "VIEWER": "viewer-0123456789abcdef", "OPERATOR": "operator-0123456789abcdef",
    "ENGINEER": "engineer-0123456789abcdef", "PUSH": "pushing-0123456789abcdef",
}  # fmt: skip
NONCE = "00c0ffee00c0ffee"


def pushed_device(row: str = "A") -> Device:
    """A push device "gate" with one inlet of a rack that has no other, and a power."""
    points = [
        Point(key=f"gate/{i}", device="gate", id=i, quantity=q, unit=u, address=NamedAddress(i),
              equipment="gate", row=row, rack=k, max_age_s=15.0, max_slew_per_s=0.05)
        for i, q, u, k in (("inlet_c", "inlet_c", "degC", "Z01"), ("pdu_kw", "pdu_kw", "kW", "Z01"))
    ]  # fmt: skip
    return Device(id="gate", protocol="push", points=tuple(points), token=SecretRef(env="PUSH"))


def api_section(**more: Any) -> ApiSection:
    """Tokens of every role, on a free port of loopback."""
    tokens = tuple(
        ApiTokenSection(name=f"ann-{role}", role=role, token=SecretRef(env=role.upper()))
        for role in ("viewer", "operator", "engineer")
    )
    return ApiSection(listen="127.0.0.1:0", tokens=tokens, **more)


@cache
def _bare_hall() -> Site:
    return plant_site(load_plant("hall", {"seed": "1"}).points(), 5.0)


def hall_site(folder: Path, push: bool = True, **more: Any) -> Site:
    """The bundled hall's site with an API, a history of its own and a push device."""
    site = _bare_hall()
    return replace(
        site,
        api=more.pop("api", api_section()),
        history=HistorySection(url=f"sqlite:///{folder}/history.db"),
        agent=site.agent.model_copy(update={"data_dir": str(folder), **more.pop("agent", {})}),
        devices=(*site.devices, *((pushed_device(),) if push else ())),
        **more,
    )


class House:
    """An agent that runs, its history, its events, and the API on them."""

    def __init__(self, folder: Path, site: Site, plan: Rehearsal | None = None) -> None:
        self.run = Rehearsed(plan or Rehearsal("hall", {"seed": "1"}, site=site), folder)
        self.run.drivers.pop("gate", None)
        self.agent, self.clock, self.site = self.run.agent, self.run.clock, site
        self.hub = Hub(self.clock, NONCE)
        self.history = History(site, self.clock, ENVIRON)
        recording = Recording()
        recording.begin(self.history)
        self.agent.listeners += [self.hub.listen, recording.listen]
        self.agent.services.history = self.history
        self.polls: dict[str, DeviceStats] = {}
        self.alarms = AlarmDesk(
            self.agent, lambda: facts(self.agent, self.history, None, self.polls)
        )
        self.agent.services.alarms = self.alarms
        self.agent.listeners.append(self.alarms.listen)
        self.api = Api(self.agent, self.hub, "0.1.0", self.history, None, self.polls, ENVIRON)
        self.url = ""

    async def minutes(self, count: float) -> None:
        """So many simulated minutes, and history written."""
        await self.run.run(count / 60.0)
        await self.history.flush()
        await self.history.rollup(self.clock.now_s())

    def audit(self) -> list[dict[str, Any]]:
        """What the log holds of commands, oldest first, without number and time."""
        found = read_entries(self.run.journal.path, 0, 100_000)
        return [
            {k: v for k, v in e.items() if k not in ("at_s", "seq", "kind")}
            for e in found
            if e["kind"] == "command"
        ]

    async def minutes_alone(self, count: float) -> None:
        """So many simulated minutes in which no loop acts."""
        plan, self.run.plan = self.run.plan, replace(self.run.plan, controller="fixed")
        await self.minutes(count)
        self.run.plan = plan


@asynccontextmanager
async def house(
    folder: Path, site: Site | None = None, minutes: float = 0.5
) -> AsyncIterator[House]:
    """A house whose API listens."""
    made = House(folder, site or hall_site(folder))
    await made.history.start()
    await made.minutes(minutes)
    made.url = await made.api.start()
    try:
        yield made
    finally:
        await made.api.stop()
        await made.history.close()
        made.run.close()


def bearer(role: str) -> dict[str, str]:
    """The header of a role's token."""
    return {"Authorization": f"Bearer {ENVIRON[role.upper()]}"}


async def get(house: House, path: str, **more: Any) -> tuple[int, Any]:
    """(status, JSON) of a GET."""
    async with aiohttp.ClientSession() as session, session.get(house.url + path, **more) as r:
        return r.status, await r.json()


async def post(
    house: House, path: str, body: Any = None, role: str = "", **more: Any
) -> tuple[int, Any]:
    """(status, JSON) of a POST by a role."""
    headers = bearer(role) if role else {}
    async with (
        aiohttp.ClientSession() as session,
        session.post(house.url + path, json=body, headers=headers, **more) as r,
    ):
        return r.status, await r.json()
