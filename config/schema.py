"""The keys of a site file, each with its type and bounds.

The contract of names is the example in docs/; keys may be added, none renamed. Unknown keys
are refused everywhere. Cross-checks between parts of a file live in config.checks.
"""

import re
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from config.base import ID as ID
from config.base import SCOPE as SCOPE
from config.base import Name as Name
from config.base import Scope as Scope
from config.base import Section as Section
from config.interlocks import InterlockSection as InterlockSection
from config.interlocks import UnitSection as UnitSection
from config.links import BacnetMac, SerialSection, TlsSection, parse_hole
from config.quantities import QUANTITIES, UNITS, units_for
from config.secrets import SecretRef
from config.surfaces import ApiSection as ApiSection
from config.surfaces import MqttSection as MqttSection

Seconds = Annotated[float, Field(gt=0, le=86_400 * 31, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Percentile = Annotated[float, Field(gt=50, lt=100)]
Port = Annotated[int, Field(ge=1, le=65_535)]


class SiteSection(Section):
    """[site]: what and where the hall is."""

    id: Name
    area: Name = "hall"
    timezone: str = "UTC"
    simulated: bool = False  # a rehearsal site: actuators need no commissioning

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError(
                f"unknown time zone {value!r}; use a name such as Europe/Berlin"
            ) from None
        return value


class AgentSection(Section):
    """[agent]: mode, cadence and where the agent keeps its own files."""

    mode: Literal["advisory", "closed_loop"] = "advisory"
    armed: Annotated[tuple[Scope, ...], Field(strict=False)] = ()
    poll_interval_s: Seconds = 5.0
    stale_after_s: Seconds = 15.0
    data_dir: str = "/var/lib/skadi"
    include: Annotated[tuple[str, ...], Field(strict=False)] = ()
    on_stop: Literal["release", "hold"] = "release"


class LoopsSection(Section):
    """[loops]: periods of the agent's jobs."""

    ims_mms_s: Seconds = 5.0
    fast_s: Seconds = 10.0
    slow_s: Seconds = 120.0
    rollup_s: Seconds = 10.0


class LimitsSection(Section):
    """[limits]: what must never be crossed, and how fast anything may change."""

    inlet_max_c: Annotated[float, Field(ge=15, le=45)] = 28.0
    latency_p95_max_ms: Annotated[float, Field(gt=0, le=600_000)] = 250.0
    latency_metric: Literal["ttft", "e2e", "queue"] = "ttft"
    rack_max_kw: Annotated[float, Field(gt=0, le=1_000)] = 12.0
    write_interval_s: Annotated[float, Field(ge=1, le=86_400)] = 120.0
    release_after_s: Annotated[float, Field(ge=1, le=3_600)] = 60.0
    lease_s: Annotated[float, Field(ge=30, le=86_400)] = 900.0
    permit_s: Annotated[float, Field(ge=1, le=3_600)] = 20.0  # then a permit is void
    max_changes_at_once: Annotated[int, Field(ge=1, le=1_000)] = 8
    baseline_max_age_s: Annotated[float, Field(ge=60)] = 86_400.0
    unit_loss_inlet_max_c: Annotated[float, Field(ge=15, le=60)] = 32.0
    unit_loss_s: Annotated[float, Field(ge=0, le=7_200)] = 300.0  # 0: not looked at
    zone_spread_max_k: Annotated[float, Field(gt=0, le=50)] = 1.0
    ramp_back_s: Annotated[float, Field(ge=0, le=7_200)] = 300.0


class ImsSection(Section):
    """[ims]: how nominal operation is learned."""

    clusters: Annotated[int, Field(ge=1, le=64)] = 8
    tau_fast_percentile: Percentile = 95.0
    tau_persist_percentile: Percentile = 98.0
    model: str | None = None  # a trained model's file; default: the active one in history

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.tau_fast_percentile >= self.tau_persist_percentile:
            raise ValueError("tau_fast_percentile must be below tau_persist_percentile")
        return self


class MmsSection(Section):
    """[mms]: how transient and persistent trouble are told apart."""

    alpha: Annotated[float, Field(gt=0, le=1)] = 0.3
    persist_ticks: Annotated[int, Field(ge=1, le=1_000)] = 6


class OptimizerSection(Section):
    """[optimizer]: which of the named moves the slow loop may make, and how it weighs them."""

    moves: Annotated[tuple[str, ...], Field(strict=False)] = (
        "supply_air", "fan", "pump", "traffic_shift", "batching",
    )  # fmt: skip
    min_saving_pct: Annotated[float, Field(ge=0, le=50)] = 0.05
    hold_back_s: Annotated[float, Field(ge=0, le=86_400)] = 3_600.0


class HistorySection(Section):
    """[history]: where telemetry and decisions are kept. Losing it never stops control."""

    enabled: bool = True  # false: no database at all, for an agent that only watches and mirrors
    url: str | None = None  # default: sqlite in data_dir
    password: SecretRef | None = None
    keep_days: Annotated[int, Field(ge=1, le=36_500)] = 90
    max_gb: Annotated[float, Field(gt=0, le=1_000_000)] = 50.0  # then the oldest readings go first
    spool_mb: Annotated[int, Field(ge=1, le=1_000_000)] = 512  # on disk while the database is away
    # What a device says sooner after the last kept poll of it is not kept: 1 Hz at most.
    min_interval_s: Annotated[float, Field(ge=0, le=86_400)] = 0.8

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("sqlite:///", "postgresql://")):
            raise ValueError("use sqlite:///PATH or postgresql://user@host/database")
        if value is not None and re.search(r"://[^/@:]+:[^/@]+@", value):
            raise ValueError("a password must not stand in the URL: use history.password")
        return value


class PairSection(Section):
    """[pair]: this agent is one of two, on two hosts, for one hall. Both share one PostgreSQL.

    lease_s: the active stops writing when it could not renew its lease for so long; the other
    takes over after half as long again. A takeover is done within 60 s.
    """

    lease_s: Annotated[float, Field(ge=1, le=25)] = 20.0


class AuthSection(Section):
    """SNMP credentials: a v1 or v2c community, or a v3 user with its passwords.

    aes192 and aes256 lengthen a short key as Blumenthal's draft has it (net-snmp), aes192c
    and aes256c as Reeder's (Cisco, and many others).
    """

    version: Literal["1", "2c", "3"] = "2c"
    community: SecretRef | None = None
    user: str | None = None
    auth_password: SecretRef | None = None
    priv_password: SecretRef | None = None
    auth_protocol: Literal["sha1", "sha224", "sha256", "sha384", "sha512", "md5"] = "sha256"
    priv_protocol: Literal["aes128", "aes192", "aes256", "aes192c", "aes256c", "des"] = "aes128"

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.version != "3" and self.community is None:
            raise ValueError(f'version "{self.version}" needs community = {{ env = "NAME" }}')
        if self.version == "3" and not self.user:
            raise ValueError('version "3" needs user')
        if self.priv_password is not None and self.auth_password is None:
            raise ValueError("priv_password needs auth_password")
        return self


class RowSection(Section):
    """[[row]]: which racks stand in a row, where the points don't say so themselves."""

    id: ID
    racks: Annotated[tuple[ID, ...], Field(strict=False)]


class PointSection(Section):
    """[[device.point]]: one value: what it is, where it lives, and what may be written to it."""

    id: ID
    quantity: str
    unit: str | None = None
    row: ID | None = None
    rack: ID | None = None
    zone: ID | None = None
    equipment: ID | None = None
    # where it lives (which keys, depends on the protocol)
    register_: str | None = Field(None, alias="register")
    type: str | None = None
    word_order: Literal["big", "little"] | None = None
    byte_order: Literal["big", "little"] | None = None
    bit: Annotated[int, Field(ge=0, le=15)] | None = None
    object: str | None = None
    property: str | None = None
    oid: str | None = None
    valid_while: dict[str, str | int] | None = None  # other OID -> what it must read
    metric: str | list[str] | None = None
    labels: dict[str, str | list[str]] | None = None
    kind: Literal["gauge", "rate", "quantile"] | None = None
    quantile: Annotated[float, Field(gt=0, lt=1)] | None = None
    window_s: Seconds | None = None
    aggregate: Literal["sum", "mean", "max", "min"] | None = None
    knob: Literal["traffic_share_pct", "batch_window_ms", "admission_pct"] | None = None
    name: str | None = None
    per_rack: bool = False  # in profiles: one point for each rack of the device's hosts
    # from raw to the unit
    scale: Finite = 1.0
    offset: Finite = 0.0
    sentinels: Annotated[tuple[float, ...], Field(strict=False)] = ()
    part: bool = False  # part of another value, or nothing to be summed: kept, never decided on
    # how it ages
    max_age_s: Seconds | None = None
    max_slew_per_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    # what may be written
    writable: bool = False
    min: Finite | None = None
    max: Finite | None = None
    max_step: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    deadband: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    min_interval_s: Annotated[float, Field(ge=0, le=86_400)] | None = None
    settle_s: Annotated[float, Field(ge=0, le=86_400)] = 300.0
    max_writes_per_day: Annotated[int, Field(ge=1, le=10_000)] = 96
    safe_value: Finite | None = None
    relinquish: bool | None = None  # false: a BACnet object without a priority array

    @field_validator("quantity")
    @classmethod
    def _in_the_list(cls, value: str) -> str:
        if value not in QUANTITIES:
            raise ValueError(f"unknown quantity {value!r}{closest(value, QUANTITIES)}")
        return value

    @field_validator("scale")
    @classmethod
    def _scale_not_zero(cls, value: float) -> float:
        if value == 0:
            raise ValueError("scale must not be 0")
        return value

    @model_validator(mode="after")
    def _unit_fits(self) -> Self:
        if self.unit is not None and self.unit not in units_for(self.quantity):
            known = "" if self.unit in UNITS else f" {self.unit!r} is no unit Skadi knows;"
            raise ValueError(
                f"unit:{known} {self.quantity} is measured in {' or '.join(units_for(self.quantity))}"
            )
        return self

    @model_validator(mode="after")
    def _bounds_fit(self) -> Self:
        if not self.writable:
            return self
        missing = [k for k in ("min", "max", "max_step") if getattr(self, k) is None]
        if missing:
            raise ValueError(f"writable: a writable point needs {', '.join(missing)}")
        assert self.min is not None
        assert self.max is not None
        if self.min > self.max:
            raise ValueError(f"min: {self.min:g} is above max {self.max:g}; swap them")
        if self.safe_value is not None and not self.min <= self.safe_value <= self.max:
            raise ValueError(
                f"safe_value: {self.safe_value:g} is outside {self.min:g}..{self.max:g}"
            )
        return self


class DeviceSection(Section):
    """[[device]]: one thing with an address. `point` is validated apart, one by one."""

    id: Name
    protocol: Literal[
        "modbus-tcp", "modbus-tls", "modbus-rtu", "modbus-rtu-tcp", "bacnet-ip", "snmp",
        "prometheus", "workload-http", "envoy", "kubernetes", "slurm", "nvml", "push", "plant",
    ]  # fmt: skip
    host: Annotated[str, Field(min_length=1, pattern=r"^[^\s/]+$")] | None = None
    port: Port | None = None
    url: Annotated[str, Field(pattern=r"^https?://[^\s]+$")] | None = None
    unit_id: Annotated[int, Field(ge=0, le=255)] = 1
    device_instance: Annotated[int, Field(ge=0, le=4_194_302)] | None = None
    write_priority: Annotated[int, Field(ge=9, le=15)] = 12
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 1.0
    poll_interval_s: Seconds | None = None
    auth: AuthSection | None = None
    token: SecretRef | None = None
    profile: str | None = None
    profile_points: bool = True  # false: only the points that stand here (skadi scan)
    writable_from_document: bool = False  # let points of a document-only profile be written
    row: ID | None = None
    rack: ID | None = None
    zone: ID | None = None
    hosts: dict[str, str] | None = None  # host name in the labels -> rack
    modules: dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], ID] | None = None  # index -> rack
    local_address: str | None = None
    max_registers: Annotated[int, Field(ge=1, le=125)] = 125
    max_gap: Annotated[int, Field(ge=0, le=124)] = 8
    no_read: Annotated[tuple[str, ...], Field(strict=False)] = ()  # "holding:10-12": never asked
    write_multiple: bool = False  # FC 15/16 for a single value too: the device lacks FC 5 and 6
    pause_ms: Annotated[float, Field(ge=0, le=10_000)] = 0.0  # between requests on one link
    serial: SerialSection | None = None
    tls: TlsSection | None = None
    # Actuators of the work: refuse writes, and say what they would do. The default is true for
    # envoy, kubernetes, slurm and nvml, false for workload-http.
    dry_run: bool | None = None
    program: Annotated[str, Field(pattern=r"^\S+$")] | None = (
        None  # slurm: scontrol, if not on PATH
    )
    cov_lifetime_s: Annotated[int, Field(ge=60, le=86_400)] | None = None  # BACnet: subscribe
    bacnet_network: Annotated[int, Field(ge=1, le=65_534)] | None = None  # host is its router
    bacnet_mac: BacnetMac | None = None
    heartbeat: ID | None = None  # the writable point whose changes tell it that Skadi is alive
    point: list[Any] = Field(default_factory=list)

    @field_validator("no_read")
    @classmethod
    def _holes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for hole in value:
            parse_hole(hole)
        return value

    @field_validator("write_priority", mode="before")
    @classmethod
    def _operators_first(cls, value: object) -> object:
        if isinstance(value, int) and not 9 <= value <= 15:
            raise ValueError(
                f"{value} is refused: 1-8 belong to life safety and operators, 16 to everyone;"
                " use 9..15 (12 by default)"
            )
        return value


def closest(word: str, words: Any) -> str:
    """Suggest the nearest known word, for an error message."""
    near = get_close_matches(word, list(words), n=1)
    return f"; did you mean {near[0]!r}?" if near else "; see docs for the list"
