"""CRAC and pump units over Modbus, as modbus_tk and mbpoll see them. Both share no code with us."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from modbus_tk import defines
from modbus_tk.modbus import ModbusError
from modbus_tk.modbus_tcp import TcpMaster

from simulators.park import Park
from tests.simulators.make import running_park


@pytest.fixture
async def park() -> AsyncIterator[Park]:
    async with running_park() as park:
        yield park


async def ask(park: Park, device: str, *request: Any, **about: Any) -> Any:
    """One request from another thread, over a connection of its own."""
    at = park.servers[device].device

    def talk() -> Any:
        master = TcpMaster(at.host, at.port, timeout_in_sec=5.0)
        try:
            return master.execute(1, *request, **about)
        finally:
            master.close()

    return await asyncio.to_thread(talk)


async def test_registers_say_what_the_hall_says(park: Park) -> None:
    readings = park.world.readings
    raw = await ask(park, "crac-b2", defines.READ_INPUT_REGISTERS, 0, 5)
    names = ("supply_air_c", "return_air_c", "fan_rpm_pct", "valve_pct")
    assert [r / 10 for r in raw[:4]] == [readings[f"crac-b2/{n}"] for n in names]
    assert raw[4] == 1
    assert await ask(park, "crac-b2", defines.READ_HOLDING_REGISTERS, 0, 2) == (180, 1000)
    (flow,) = await ask(
        park, "pump-d", defines.READ_INPUT_REGISTERS, 1, 2, data_format=">f"
    )  # fmt: skip
    assert flow == pytest.approx(readings["pump-d/flow_lps"])


async def test_a_write_takes_effect_in_the_hall_and_is_journaled(park: Park) -> None:
    await ask(park, "crac-a1", defines.WRITE_SINGLE_REGISTER, 1, output_value=700)
    await ask(park, "crac-a2", defines.WRITE_MULTIPLE_REGISTERS, 0, output_value=[190, 650])
    assert await ask(park, "crac-a1", defines.READ_HOLDING_REGISTERS, 0, 2) == (180, 700)
    for _ in range(40):
        park.world.step()
    assert park.world.readings["crac-a1/fan_rpm_pct"] == pytest.approx(70.0, abs=1.0)
    assert park.world.readings["crac-a2/supply_air_c"] == pytest.approx(19.0, abs=0.3)
    wire = park.world.journal_since(0)
    assert [(w["point"], w["old"], w["new"], w["outcome"]) for w in wire] == [
        ("crac-a1/fan_rpm_setpoint_pct", 100.0, 70.0, "applied"),
        ("crac-a2/supply_air_setpoint_c", 18.0, 19.0, "applied"),
        ("crac-a2/fan_rpm_setpoint_pct", 100.0, 65.0, "applied"),
    ]
    assert wire[1]["change"] == wire[2]["change"] != wire[0]["change"]


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ((defines.WRITE_SINGLE_REGISTER, 0, 1, 600), 3),  # 60 degC
        ((defines.WRITE_SINGLE_REGISTER, 0, 1, 0xFFF6), 3),  # -1 degC
        ((defines.WRITE_SINGLE_REGISTER, 2, 1, 100), 2),  # no such register
        ((defines.READ_HOLDING_REGISTERS, 0, 3), 2),
        ((defines.READ_INPUT_REGISTERS, 5, 1), 2),
        ((defines.WRITE_SINGLE_COIL, 0, 1, 1), 1),
    ],
)
async def test_what_a_unit_refuses(park: Park, request_: tuple[int, ...], code: int) -> None:
    before = dict(park.world.hall.setpoints.values)
    with pytest.raises(ModbusError) as caught:
        await ask(park, "crac-a1", *request_)
    assert caught.value.get_exception_code() == code
    assert park.world.hall.setpoints.values == before
    assert all("refused" in str(w["outcome"]) for w in park.world.journal_since(0))


async def test_a_unit_in_local_is_read_but_not_written(park: Park) -> None:
    await park.act("crac-a1", "local")
    assert await ask(park, "crac-a1", defines.READ_DISCRETE_INPUTS, 0, 2) == (0, 0)
    with pytest.raises(ModbusError):
        await ask(park, "crac-a1", defines.WRITE_SINGLE_REGISTER, 0, output_value=190)
    await park.act("crac-a1", "remote")
    assert await ask(park, "crac-a1", defines.READ_DISCRETE_INPUTS, 0, 2) == (0, 1)
    await ask(park, "crac-a1", defines.WRITE_SINGLE_REGISTER, 0, output_value=190)
    assert park.world.hall.setpoints.values["crac-a1/supply_air_setpoint_c"] == 19.0


async def test_one_unit_stops_alone_and_comes_back_with_its_setpoint(park: Park) -> None:
    await ask(park, "crac-c1", defines.WRITE_SINGLE_REGISTER, 0, output_value=200)
    port = park.servers["crac-c1"].device.port
    await park.act("crac-c1", "stop")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(park.servers["crac-c1"].device.host, port)
    assert await ask(park, "crac-c2", defines.READ_HOLDING_REGISTERS, 0, 1) == (180,)
    await park.act("crac-c1", "start")
    assert park.servers["crac-c1"].device.port == port
    assert await ask(park, "crac-c1", defines.READ_HOLDING_REGISTERS, 0, 1) == (200,)


async def test_an_alarm_shows_in_state_and_discrete_input(park: Park) -> None:
    park.world.hall.overlays.start("crac_failure", park.world.hall.now_s)
    park.world.step()
    assert (await ask(park, "crac-c1", defines.READ_INPUT_REGISTERS, 4, 1)) == (3,)
    assert await ask(park, "crac-c1", defines.READ_DISCRETE_INPUTS, 0, 2) == (1, 1)


@pytest.mark.peer
async def test_mbpoll_reads_and_writes(park: Park, peer: Callable[[str], str]) -> None:
    at = park.servers["crac-f1"].device

    async def mbpoll(*words: str) -> str:
        started = await asyncio.create_subprocess_exec(
            peer("mbpoll"), "-0", "-m", "tcp", "-p", str(at.port), "-a", "1", "-1", *words,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await started.communicate()
        return out.decode()

    out = await mbpoll("-t", "3", "-r", "0", "-c", "2", at.host)
    assert f"[0]: \t{round(park.world.readings['crac-f1/supply_air_c'] * 10)}" in out
    await mbpoll("-t", "4", "-r", "0", at.host, "195")
    assert "[0]: \t195" in await mbpoll("-t", "4", "-r", "0", at.host)
    assert park.world.hall.setpoints.values["crac-f1/supply_air_setpoint_c"] == 19.5
