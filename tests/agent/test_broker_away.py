"""An hour without the broker, on a virtual clock: memory stays as it is, what must not be lost is on disk."""

import gc
import tracemalloc
from pathlib import Path

from agent.clock import VirtualClock
from agent.mqtt import link as mirror_link
from agent.mqtt.mirror import Mirror
from control.types import Quality, Reading
from tests.agent import make
from tests.peers import free_port, until

T0 = 1_700_000_000.0
HOUR_S = 3_600
WARM_S = 600
FLAT_BYTES = (
    400_000  # a segment on disk is some hundreds of bytes here; 3,000 polls kept would be megabytes
)


async def test_an_hour_without_the_broker_is_flat(tmp_path: Path) -> None:
    site = make.site(mqtt={"url": f"mqtt://127.0.0.1:{free_port()}"})
    clock = VirtualClock(T0)
    mirror = Mirror(site, clock, {}, version="1", folder=tmp_path / "mqtt")
    mirror.start()
    backlog = mirror._backlog
    assert backlog is not None
    held = {0: 0}
    tracemalloc.start()
    for second in range(1, HOUR_S + 1):
        clock.advance(1.0)
        for device in site.devices:
            mirror.publish_device(
                device,
                [Reading(p.key, second % 40, clock.now_s(), Quality.GOOD) for p in device.points],
            )
        mirror.publish_kpi({"wh_per_prompt": second})
        if second % 10 == 0:
            mirror.publish_event("mms", {"n": second, "text": "x" * 200})
        if second % 100 == 0:
            backlog._wake.set()
            await until(lambda: not backlog._rows)
        if second in (WARM_S, HOUR_S):
            gc.collect()
            held[second] = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    grown = held[HOUR_S] - held[WARM_S]
    assert grown < FLAT_BYTES, f"{grown} bytes more after 50 minutes"
    assert mirror.dropped == 0
    least = HOUR_S // 10 + 3 * (HOUR_S // 60 - 1)  # events, and each state once a minute
    await until(lambda: mirror.waiting >= least)  # what was taken last may be on its way to disk
    assert len(mirror._link._retained) <= len(site.devices) + 3
    assert mirror._link._unsent <= mirror_link.QUEUED
    await mirror.stop(0.5)
    print(f"1 h without the broker: {grown / 1024:.0f} KiB more, {mirror.waiting} messages on disk")
