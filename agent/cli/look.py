"""Commands that look at a running agent: status and top. They speak over the local socket."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from agent.capability import gaps
from agent.cli.call import reach
from agent.cli.exits import Exit, fail, print_json
from agent.cli.options import config_option, json_option
from config.loader import load_site

_HELD = 8  # setpoints that are named one by one
Json = dict[str, Any]


@click.command()
@config_option
@json_option
def status(config_path: Path, as_json: bool) -> None:
    """What the running agent sees, holds and may do."""
    if as_json:
        print_json(reach(config_path, "status", {}))
        return
    for line in lines(reach(config_path, "overview", {})):
        click.echo(line)


def lines(seen: Json) -> list[str]:
    """An overview as lines for people, none wider than it must be."""
    modes, kpi = seen["modes"], seen["kpi"]
    armed = ", ".join(modes["armed"]) or "nothing"
    killed = "  KILLED" if modes["killed"] else ""
    out = [
        f"{seen['site']}/{seen['area']}  {modes['mode']}{killed}, armed: {armed}"
        f"  {seen['ts'][:19].replace('T', ' ')} UTC  version {seen['version']}",
        f"  energy    {_figure(kpi, 'wh_per_prompt', 3)}/prompt (mean"
        f" {_figure(kpi, 'wh_per_prompt_mean', 3)}), PUE {_figure(kpi, 'pue', 3)},"
        f" total {_figure(kpi, 'total_kw', 1)}",
        f"  worst     {_against(seen, 'worst_inlet_c', 'inlet_max_c')},"
        f" p95 {_against(seen, 'worst_latency_p95_ms', 'latency_p95_max_ms')},"
        f" rack {_against(seen, 'worst_rack_kw', 'rack_max_kw')}",
    ]
    judged = [(f"row {r['row']}", r) for r in seen["rows"]]
    judged += [("hall", seen["hall"])] if seen.get("hall") else []
    for name, unit in judged:
        ema = "-" if unit["ema"] is None else f"{unit['ema']:.2f}"
        tau = "" if unit["tau_persist"] is None else f" of {unit['tau_persist']:.2f}"
        out.append(f"  {name:9} {unit['state']}, D(x) {ema}{tau}, since {unit['since'][:19]}Z")
    if not seen["rows"]:
        out.append("  rows      not judged: no trained model (skadi train; ims.model)")
    return [*out, *_devices(seen["devices"]), *_held(seen["held"]), *_troubles(seen)]


def _figure(kpi: Json, name: str, digits: int) -> str:
    figure = kpi.get(name, {"value": None, "unit": ""})
    unit = "" if figure["unit"] == "1" else f" {figure['unit']}"
    return "-" if figure["value"] is None else f"{figure['value']:.{digits}f}{unit}"


def _against(seen: Json, name: str, limit: str) -> str:
    most = seen["limits"][limit]
    value = seen["kpi"][name]["value"]
    return f"{'-' if value is None else f'{value:.1f}'} of {most['value']:g} {most['unit']}"


def _devices(devices: list[Json]) -> list[str]:
    polled = [d for d in devices if d["protocol"] != "push"]
    silent = [d for d in polled if d["failing"] or not d["polls"]]
    pushes = f", {n} pushed" if (n := len(devices) - len(polled)) else ""
    out = [f"  devices   {len(polled) - len(silent)} of {len(polled)} answer{pushes}"]
    for d in silent[:_HELD]:
        why = d["reason"] or "not asked yet"
        since = f", last heard {d['last_good'][:19]}Z" if d["last_good"] else ""
        out.append(f"    {d['device']} is silent{since}: {why}")
    out += [f"    and {len(silent) - _HELD} more"] if len(silent) > _HELD else []
    lacking = [(d["device"], gaps(d["quantities"])) for d in devices if d not in silent]
    lacking = [(device, found) for device, found in lacking if found]
    for device, found in lacking[:_HELD]:
        out.append(f"    {device} lacks {'; '.join(f'{q}: {w}' for q, w in found.items())}")
    return out + (
        [f"    and {len(lacking) - _HELD} more (skadi doctor)"] if len(lacking) > _HELD else []
    )


def _held(held: list[Json]) -> list[str]:
    if not held:
        return ["  holds     nothing: every device has its own setpoints"]
    out = [f"  holds     {len(held)} setpoints"]
    for h in sorted(held, key=lambda h: not h["baseline_old"])[:_HELD]:  # stable: those first
        old = f", too long ago: skadi arm --baseline {h['point']}" if h["baseline_old"] else ""
        was = "" if h["baseline"] is None else f" (was {h['baseline']:g}{old})"
        until = f"until {h['expires'][11:19]}Z unless renewed"
        out.append(f"    {h['point']} = {h['value']:g} {h['unit']}{was} {until}")
    return out + ([f"    and {len(held) - _HELD} more"] if len(held) > _HELD else [])


def _troubles(seen: Json) -> list[str]:
    out = [
        f"  alarm     {a['severity']} {a['state']}: {a['text']} [{a['id']}]" for a in seen["alarms"]
    ]
    out += [f"  tripped   {lock}: skadi arm --reset {lock}" for lock in seen["tripped"]]
    for what in ("yielded", "quarantined"):
        out += [f"  {what}  {point}: {why}" for point, why in seen[what].items()]
    history = seen["history"]
    if history is not None and history["lost"]:
        out.append(f"  history   away, {history['queued']} rows wait: {history['lost']}")
    if seen["mqtt_connected"] is False:
        out.append("  mqtt      the broker is away")
    return out


@click.command()
@config_option
@json_option
@click.option("--every", "every_s", type=click.FloatRange(0.2, 60), default=1.0, show_default=True,
              help="Seconds between two looks.")  # fmt: skip
@click.option("--once", is_flag=True, help="One picture, and end.")
@click.option("--url", help="An agent elsewhere, by its HTTP API; needs no site file.")
@click.option("--token", "token_env", metavar="NAME", default="SKADI_API_TOKEN", show_default=True,
              help="The environment variable that holds the token for --url.")  # fmt: skip
def top(
    config_path: Path, as_json: bool, every_s: float, once: bool, url: str | None, token_env: str
) -> None:
    """The hall live: heat map, energy, rows, actions, devices and alarms. Ctrl-C ends it."""
    from agent.cli.look_sources import local, remote

    source = remote(url, token_env) if url else local(Path(load_site(config_path).agent.data_dir))
    try:
        first = source()
    except ConnectionError as error:
        fail(f"{error}; is it running? (skadi run)", Exit.UNREACHABLE)
    if as_json:
        print_json({"overview": first[0], "heatmap": first[1], "events": first[2]})
        return
    _show(first, source, every_s, once)


def _show(first: Any, source: Callable[[], Any], every_s: float, once: bool) -> None:
    from rich.console import Console
    from rich.live import Live

    from agent.screen.draw import draw
    from agent.screen.local import fill, frame
    from agent.screen.view import View

    console, view = Console(highlight=False), View()
    fill(view, *first)
    about = frame(first[0], "Ctrl-C ends it")
    size = console.size
    if once or not console.is_terminal:
        console.print(draw(view, about, size.width, min(size.height, 60)), height=size.height)
        return
    with (
        suppress(KeyboardInterrupt),
        Live(console=console, auto_refresh=False, screen=True) as live,
    ):

        def update() -> None:
            size = console.size
            live.update(draw(view, about, size.width, size.height), refresh=True)

        asyncio.run(_watch(view, source, update, every_s))


async def _watch(
    view: Any, source: Callable[[], Any], update: Callable[[], None], every_s: float
) -> None:
    from agent.clock import WallClock
    from agent.screen.local import fill

    clock = WallClock()
    while True:
        update()
        await clock.sleep_s(every_s)
        try:
            fill(view, *await asyncio.to_thread(source))
        except ConnectionError:
            view.online = False  # the last picture stays, and says so
