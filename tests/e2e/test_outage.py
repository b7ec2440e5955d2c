"""One device stops: its points turn stale, the others keep their period, and it is taken up again."""

import threading
from collections import Counter
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from agent.mqtt.broker import DemoBroker
from tests.e2e.world import Json, agent, hall, until
from tests.peers import free_port


class Ear:
    """Counts the messages of each device, and keeps the last one."""

    def __init__(self, port: int) -> None:
        self.count: Counter[str] = Counter()
        self.last: dict[str, Json] = {}
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = self._came
        self._client.on_connect = lambda c, *_: c.subscribe("skadi/+/+/device/+/state")
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def _came(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        import json

        device = message.topic.split("/")[4]
        self.count[device] += 1
        self.last[device] = json.loads(message.payload)

    def qualities(self, device: str) -> set[str]:
        """The qualities of a device's points in its last message."""
        return {p["quality"] for p in self.last.get(device, {"points": {}})["points"].values()}

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def broker_port() -> "object":
    """The demo's own broker, in a thread with a loop of its own."""
    import asyncio

    port, up, down = free_port(), threading.Event(), threading.Event()

    async def serve() -> None:
        broker = DemoBroker("127.0.0.1", port)
        await broker.start()
        up.set()
        await asyncio.to_thread(down.wait)
        await broker.stop()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert up.wait(10)
    yield port
    down.set()
    thread.join(10)


ONE_OF_EACH = ("crac-c1", "bms", "pdu-b", "gpu-d", "router")


def test_a_dead_device_is_its_own_affair(tmp_path: Path, broker_port: int) -> None:
    with hall(tmp_path, speed=30.0, patience_s=1.5) as at:
        ear = Ear(broker_port)
        url = f"mqtt://127.0.0.1:{broker_port}"
        with agent(at, SKADI_MQTT__URL=url, SKADI_AGENT__STALE_AFTER_S="60") as running:
            until(lambda: set(ear.last) == set(at.devices), "every device is heard of")
            until(lambda: ear.qualities("vllm-a") == {"good"}, "rates and quantiles are known")
            for device in ONE_OF_EACH:
                at.post(f"/devices/{device}", {"action": "stop"})
                until(lambda d=device: not ear.qualities(d) & {"good"}, f"{device} is lost")
                before = ear.count.copy()
                until(lambda b=before: (ear.count - b)["pdu-a"] >= 10, "ten polls of another")
                polls = {d: (ear.count - before)[d] for d in at.devices if d != device}
                # All have one period: a device that waits for the dead one would fall behind.
                assert min(polls.values()) >= 6, polls
                assert {q for d in polls for q in ear.qualities(d)} == {"good"}
                at.post(f"/devices/{device}", {"action": "start"})
                until(lambda d=device: ear.qualities(d) == {"good"}, f"{device} is back")
            assert running.stop() == 0
        ear.close()
        lost = [line["device"] for line in running.said("device does not answer")]
        back = [line["device"] for line in running.said("device answers again")]
        assert lost == back == list(ONE_OF_EACH)
