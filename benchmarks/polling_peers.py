"""ThingsBoard's IoT gateway as a peer of benchmarks/polling.py, in an environment of its own.

`install` fetches it from the package index (None where that can't be done, with the reason on
stderr); `configure` writes what it needs to poll the same devices into the same broker. It polls
once a second: each register is an entry of its own, as its documentation and its web form have it.
"""

import json
import subprocess
import sys
from pathlib import Path

# What the gateway itself asks for when its Modbus connector first loads.
NEEDS = ("thingsboard-gateway==3.8.5", "pymodbus==3.9.2", "pyserial", "pyserial-asyncio")
INSTALL_S = 300


def install(folder: Path) -> Path | None:
    """The Python of an environment that has the gateway."""
    python = folder / "bin" / "python"
    steps = (
        [sys.executable, "-m", "venv", "--without-pip", str(folder)],
        [
            str(Path(sys.base_prefix) / "bin" / "python3"),
            "-m",
            "pip",
            "-q",
            "--python",
            str(python),
            "install",
            *NEEDS,
        ],
    )
    for step in steps:
        try:
            done = subprocess.run(step, capture_output=True, text=True, timeout=INSTALL_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            return _without(str(error))
        if done.returncode:
            return _without(done.stderr.strip().splitlines()[-1:] or done.returncode)
    return python


def _without(reason: object) -> None:
    print(f"without thingsboard-gateway: it can't be installed here: {reason}", file=sys.stderr)


def configure(folder: Path, ports: list[int], registers: int, broker: int) -> dict[str, str]:
    """Write its configuration; the environment variables it is started with."""
    folder.mkdir()
    (folder / "logs").mkdir()
    limits = ("rateLimits", "dpRateLimits", "messagesRateLimits", "deviceMessagesRateLimits",
              "deviceRateLimits", "deviceDpRateLimits")  # fmt: skip
    gateway = {
        "thingsboard": {
            "host": "127.0.0.1", "port": broker, "remoteShell": False,
            "remoteConfiguration": False, "statistics": {"enable": False},
            "deviceFiltering": {"enable": False}, "maxPayloadSizeBytes": 65_000,
            "minPackSendDelayMS": 50, "minPackSizeToSend": 5_000, "qos": 0,
            "checkConnectorsConfigurationInSeconds": 3_600, "handleDeviceRenaming": False,
            "security": {"type": "accessToken", "accessToken": "bench"},
            "reportStrategy": {"type": "ON_RECEIVED"}, **dict.fromkeys(limits, "0:0,"),
        },
        "storage": {"type": "memory", "read_records_count": 1_000, "max_records_count": 100_000},
        "grpc": {"enabled": False},
        "connectors": [{"name": "modbus", "type": "modbus", "configuration": "modbus.json"}],
    }  # fmt: skip
    slaves = [
        {
            "host": "127.0.0.1", "port": port, "type": "tcp", "method": "socket", "unitId": 1,
            "deviceName": f"dev{d:02}", "deviceType": "default", "timeout": 5, "retries": 0,
            "byteOrder": "BIG", "wordOrder": "BIG", "pollPeriod": 1_000,
            "connectAttemptTimeMs": 1_000, "connectAttemptCount": 5, "attributes": [],
            "timeseries": [
                {"tag": f"p{i}", "type": "16uint", "functionCode": 3, "objectsCount": 1,
                 "address": i, "divider": 10}
                for i in range(registers)
            ],
            "attributeUpdates": [], "rpc": [],
        }
        for d, port in enumerate(ports)
    ]  # fmt: skip
    quiet = {"version": 1, "disable_existing_loggers": False, "handlers": {}, "loggers": {},
             "root": {"level": "CRITICAL"}}  # fmt: skip
    (folder / "tb_gateway.json").write_text(json.dumps(gateway))
    (folder / "modbus.json").write_text(json.dumps({"master": {"slaves": slaves}}))
    (folder / "logs.json").write_text(json.dumps(quiet))
    return {"TB_GW_CONFIG_DIR": str(folder), "TB_GW_LOGS_PATH": str(folder / "logs")}
