"""Which driver speaks which protocol: a table, and nothing is imported before it is needed.

A new protocol is one driver module and one line here. "push" and "plant" are not here: they
have no wire, the agent feeds them itself.
"""

from collections.abc import Mapping
from importlib import import_module

from config.site import Device
from drivers.contract import Driver, Permanent

DRIVERS: dict[str, str] = {
    "modbus-tcp": "drivers.modbus:ModbusDriver",
    "modbus-tls": "drivers.modbus:ModbusDriver",
    "modbus-rtu": "drivers.modbus:ModbusDriver",
    "modbus-rtu-tcp": "drivers.modbus:ModbusDriver",
    "bacnet-ip": "drivers.bacnet:BacnetDriver",
    "snmp": "drivers.snmp:SnmpDriver",
    "prometheus": "drivers.prometheus:PrometheusDriver",
    "workload-http": "drivers.workload:WorkloadDriver",
    "envoy": "drivers.envoy:EnvoyDriver",
    "kubernetes": "drivers.kubernetes:KubernetesDriver",
    "slurm": "drivers.slurm:SlurmDriver",
    "nvml": "drivers.nvml:NvmlDriver",
}


def make_driver(device: Device, environ: Mapping[str, str]) -> Driver:
    """Make the driver of `device`; secrets are looked up in `environ` when it connects.

    Raises Permanent for a protocol without a driver.
    """
    try:
        module, name = DRIVERS[device.protocol].split(":")
    except KeyError:
        raise Permanent(
            f"device {device.id}: no driver for protocol {device.protocol!r};"
            f" there are {', '.join(sorted(DRIVERS))}"
        ) from None
    driver: Driver = getattr(import_module(module), name)(device, environ)
    return driver
