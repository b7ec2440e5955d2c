"""The demo: a simulated hall, the agent on it in closed loop, a screen, and a verdict.

    skadi rehearse --train-to      a model of the hall in nominal operation   } side by side,
    skadi rehearse -c fixed        the same hall and arrivals without Skadi   } in virtual time
    skadi sim    <- Modbus, BACnet, SNMP, HTTP ->    skadi run    -> MQTT ->   screen (here)

Every part is a process of its own; this one holds the broker (loopback, for the demo only), the
screen, and the comparison. Decides nothing about the hall. Must never leave a process behind,
nor touch anything outside its folder.
"""

import asyncio
import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from agent.clock import WallClock, parse_utc, stopwatch_s
from agent.demo.children import Child, ChildError, Children
from agent.demo.stage import Stage
from agent.demo.verdict import NO_ACTS, Acts, Limits, failures, saving_pct, side
from agent.mqtt.broker import DemoBroker
from agent.screen.feed import Feed
from agent.screen.view import View
from config.loader import load_site

# Protocol deadlines are wall time: a reply that takes 1 s of it is 40 simulated seconds late, and
# a small host that starves a device for as long is not a dead device. What is judged by the age
# of a reading is widened by as much; nothing else is changed.
TIMEOUT_S = 4.0
SITE = {
    "SKADI_AGENT__MODE": "closed_loop",
    "SKADI_AGENT__ARMED": '["hall"]',
    "SKADI_AGENT__STALE_AFTER_S": "90",
    "SKADI_LIMITS__RELEASE_AFTER_S": "240",
    "SKADI_LIMITS__PERMIT_S": "120",
    "SKADI_LOOPS__ROLLUP_S": "60",  # history's one-minute rollups need no more
}
TRAIN_HOURS = 12.0
BUDGET_S = 225.0  # the whole command, set-up excluded; the issue asks for four minutes
ENDING_S = 8.0  # of it, for giving back and the verdict
SPEEDS = (40.0, 60.0)  # what a host of two cores keeps up with
DRAW_S = 0.5
START_S = 60.0  # a child that has said nothing by then has failed
GIVE_BACK_S = 20.0


@dataclass(frozen=True, slots=True)
class Demo:
    """What to show. speed None: as fast as ends a two-hour demo in under four minutes."""

    scenario: str
    seed: int
    hours: float
    speed: float | None
    folder: Path | None = None
    train_hours: float = TRAIN_HOURS


async def run_demo(demo: Demo, stage: Stage) -> dict[str, Any]:
    """Run a demo from start to verdict. Raises ChildError when a part of it fails."""
    started_s = stopwatch_s()
    folder = demo.folder or Path(tempfile.mkdtemp(prefix="skadi-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    stage.say(f"logs and files: {folder}")
    children, broker = Children(folder), DemoBroker()
    try:
        await broker.start()
        baseline, model = await _prepare(demo, children, folder, stage)
        speed = demo.speed or _speed(demo.hours, stopwatch_s() - started_s)
        show = _Show(demo, speed, folder, children, stage, broker.url, baseline)
        truth, acts = await show.run(model)
        wall_s = stopwatch_s() - started_s
    finally:
        await children.stop()
        await broker.stop()
    if demo.folder is None:
        for file in (folder / "skadi-data").glob("history.db*"):
            file.unlink()  # 50 MB of telemetry; --folder keeps it
    result: dict[str, Any] = {
        "scenario": demo.scenario, "seed": demo.seed, "hours": demo.hours,
        "baseline": side(baseline, NO_ACTS), "skadi": side(truth, acts),
    }  # fmt: skip
    result["saving_pct"] = saving_pct(result["baseline"], result["skadi"])
    result["failures"] = failures(result["baseline"], result["skadi"], show.limits)
    return result | {"speed": speed, "wall_s": round(wall_s, 1), "folder": str(folder)}


def _speed(hours: float, spent_s: float) -> float:
    """As fast as the time left asks for, within what a small host keeps up with."""
    left_s = max(BUDGET_S - ENDING_S - spent_s, 1.0)
    return min(max(hours * 3600.0 / left_s, SPEEDS[0]), SPEEDS[1])


async def _prepare(
    demo: Demo, children: Children, folder: Path, stage: Stage
) -> tuple[Mapping[str, Any], Path]:
    """Train on a nominal hall, and run the demo's own hall without Skadi, side by side."""
    model = folder / "model.json"
    hall = ["--scenario", demo.scenario, "--seed", str(demo.seed)]
    stage.say(f"in virtual time: {demo.train_hours:g} nominal hours to train on, and the same"
              f" {demo.hours:g} h of {demo.scenario} without Skadi")  # fmt: skip
    train = await children.start("train", [
        "rehearse", *hall, "--train-hours", str(demo.train_hours), "--train-to", str(model),
    ])  # fmt: skip
    fixed = await children.start("baseline", [
        "rehearse", *hall, "--controller", "fixed", "--hours", str(demo.hours), "--json",
    ])  # fmt: skip
    with stage.working("rehearsing"):
        result, trained = await asyncio.gather(fixed.result(), train.wait())
    if trained != 0:
        raise train.failed()
    truth = result.get("truth")
    if not isinstance(truth, dict):
        raise ChildError("the rehearsed hall gave no account of itself (truth)")
    return truth, model


class _Show:
    """The hall and the agent on it, for the demo's hours."""

    def __init__(
        self, demo: Demo, speed: float, folder: Path, children: Children, stage: Stage,
        broker_url: str, baseline: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self.demo, self.speed, self.folder = demo, speed, folder
        self.children, self.stage, self.broker_url = children, stage, broker_url
        self.baseline = baseline
        self.view = View()
        self.limits = Limits(0.0, 0.0, 0.0)

    async def run(self, model: Path) -> tuple[Mapping[str, Any], Acts]:
        """Start both, show what MQTT says until the hours are over, stop the agent."""
        site_file = self.folder / "site.toml"
        sim = await self.children.start("sim", [
            "sim", "--scenario", self.demo.scenario, "--seed", str(self.demo.seed),
            "--speed", f"{self.speed:g}", "--hours", f"{self.demo.hours:g}", "--stay",
            "--port-base", "0", "--write-config", str(site_file),
            "--summary", str(self.folder / "truth.json"), "--json",
        ])  # fmt: skip
        events = sim.events()
        ready = await self._event(sim, events, "ready", START_S)
        written = site_file.read_text(encoding="utf-8")
        patient = written.replace("[[device]]", f"[[device]]\ntimeout_s = {TIMEOUT_S}")
        site_file.write_text(patient, encoding="utf-8")
        boot_s = WallClock().boot_s()
        agent = await self.children.start("agent", [
            "run", "-c", str(site_file), "--speed", f"{self.speed:g}",
            "--start", str(parse_utc(ready["utc"])), "--start-boot", str(boot_s),
        ], SITE | {"SKADI_IMS__MODEL": str(model), "SKADI_MQTT__URL": self.broker_url})  # fmt: skip
        site = load_site(site_file, {})
        limits = site.limits
        self.limits = Limits(limits.inlet_max_c, limits.latency_p95_max_ms, limits.rack_max_kw)
        feed = Feed(
            self.broker_url,
            f"{site.mqtt.base_topic if site.mqtt else 'skadi'}/{site.id}/{site.area}",
        )
        feed.start()
        try:
            truth = await self._watch(feed, sim, agent, events)
            wire = await _wire(ready["control"])
            acts = self._acts(wire)
            self.stage.say("the hours are over: the agent gives everything back and stops")
            if not await agent.stop(GIVE_BACK_S):
                raise ChildError(f"skadi run did not stop within {GIVE_BACK_S:g} s: {agent.log}")
            self._draw(feed)
        finally:
            feed.stop()
        return truth, acts

    async def _watch(self, feed: Feed, sim: Child, agent: Child, events: Any) -> Mapping[str, Any]:
        """Draw until the hall says that its hours are over; fail when a child ends before."""
        over = asyncio.create_task(self._event(sim, events, "over", None))
        gone = asyncio.create_task(agent.wait())
        title = f"skadi demo: {self.demo.scenario}, seed {self.demo.seed}, {self.speed:.0f}x"
        try:
            with self.stage.screen(self.view, title, self.baseline["wh_per_prompt"], self.limits):
                while not over.done() and not gone.done():
                    self._draw(feed)
                    await asyncio.wait({over, gone}, timeout=DRAW_S, return_when="FIRST_COMPLETED")
                self._draw(feed)
            if not over.done():
                raise agent.failed()
            truth: Mapping[str, Any] = (await over)["truth"]
            return truth
        finally:
            over.cancel()
            gone.cancel()
            await asyncio.gather(over, gone, return_exceptions=True)

    def _draw(self, feed: Feed) -> None:
        for topic, payload in feed.take():
            if line := self.view.take(topic, payload):
                self.stage.line(line)
        self.stage.draw()

    async def _event(
        self, sim: Child, events: Any, name: str, within_s: float | None
    ) -> dict[str, Any]:
        """The next JSON line of the hall with this name."""
        try:
            async with asyncio.timeout(within_s):
                async for event in events:
                    if event.get("event") == name:
                        found: dict[str, Any] = event
                        return found
        except TimeoutError:
            raise ChildError(
                f"skadi sim was not {name} within {within_s} s:\n{sim.tail()}"
            ) from None
        await sim.wait()
        raise sim.failed()

    def _acts(self, wire: list[dict[str, Any]]) -> Acts:
        counts = self.view.counts
        taken = Counter(w["protocol"] for w in wire if w["outcome"] == "applied")
        return Acts(
            dict(sorted(taken.items())), self.view.confirmed,
            counts.get("rollbacks", 0), counts.get("protective", 0),
        )  # fmt: skip


async def _wire(control: str) -> list[dict[str, Any]]:
    """Every write request the simulated devices have seen."""
    async with aiohttp.ClientSession() as session, session.get(f"{control}/wire") as answer:
        answer.raise_for_status()
        writes: list[dict[str, Any]] = json.loads(await answer.read())["writes"]
        return writes
