"""The one table of every constant of the simulated hall, each with its source.

Nothing else in simulators/hall holds a physical number. The values were fixed before any
controller was run on the hall and must never be changed to flatter one; a test holds the
published baseline (docs/hall.md). Sources by short name:

- facts      reference values the project starts from (ASHRAE TC9.9, NVIDIA DGX H100, chillers)
- DGX        NVIDIA DGX H100 system datasheet and user guide: 8 GPUs of up to 700 W, 10.2 kW
             maximum, 1,105 CFM at 80 % fan PWM
- ASHRAE     ASHRAE TC9.9 thermal guidelines, and ASHRAE Handbook HVAC Systems and Equipment
- Azure      Azure LLM inference trace 2023 (CC-BY 4.0), conversation part
- DWD        German Weather Service, climate normals 1991-2020, Berlin
- EJ         engineering judgement: a plausible middle value, no single source
"""

from dataclasses import dataclass, field, fields


def _c(value: float, source: str) -> float:
    made: float = field(default=value, metadata={"source": source})
    return made


@dataclass(frozen=True, slots=True)
class Constants:
    """Every number of the hall. The unit is the suffix of the name; `sources()` says from where."""

    # --- air and water -----------------------------------------------------------------
    air_kj_m3k: float = _c(1.19, "ASHRAE: air at 22 degC, 1.185 kg/m3 x 1.006 kJ/kgK")
    air_kg_m3: float = _c(1.185, "ASHRAE: air at 22 degC, sea level")
    water_kj_kgk: float = _c(4.19, "ASHRAE: water at 10 degC")

    # --- one AI node a rack ------------------------------------------------------------
    gpus_per_rack: float = _c(8.0, "DGX: eight GPUs a node, one node a rack within 12 kW (facts)")
    gpu_idle_kw: float = _c(0.115, "EJ: H100 with a model loaded and clocks up, 100-130 W")
    gpu_max_kw: float = _c(0.70, "DGX: 700 W a GPU")
    gpu_leakage_per_k: float = _c(
        0.0030,
        "EJ: static share of a 4 nm GPU near 10 %, doubling in 25-30 K: 0.3 %/K of GPU power",
    )
    gpu_leakage_ref_c: float = _c(20.0, "EJ: inlet at which gpu_idle_kw and gpu_max_kw hold")
    platform_kw: float = _c(2.05, "DGX: two 350 W CPUs, NVSwitch, NICs, 2 TB of DRAM at part load")
    platform_load_kw: float = _c(0.45, "EJ: what of the platform follows the load")
    psu_efficiency: float = _c(0.95, "80 PLUS Titanium: 94-96 % between 20 and 100 % load")
    server_fan_max_kw: float = _c(2.2, "EJ: DGX fans at full speed take about 20 % of 10.2 kW")
    server_fan_base: float = _c(0.53, "EJ: floor of a DGX fan curve")
    server_fan_load: float = _c(0.12, "EJ: what load adds to fan speed below the ramp")
    server_fan_ramp_c: float = _c(25.0, "facts: server fans ramp above about 25 degC inlet")
    server_fan_ramp_per_k: float = _c(0.035, "EJ: full speed some 10 K above the start of the ramp")
    server_air_max_m3s: float = _c(0.65, "DGX: 1,105 CFM (0.52 m3/s) at 80 % PWM")
    server_heat_tau_s: float = _c(280.0, "EJ: 150 kJ/K of metal over 0.5 kW/K of air")
    throttle_start_c: float = _c(32.0, "ASHRAE: top of A1 allowable; GPUs clock down beyond")
    throttle_per_k: float = _c(0.03, "EJ: speed lost a kelvin beyond throttle_start_c")
    liquid_fraction: float = _c(0.65, "EJ: cold plates on GPUs and switches take 60-70 % of heat")
    liquid_approach_k: float = _c(8.0, "EJ: cold plate case above the water, as felt by leakage")

    # --- rack air ----------------------------------------------------------------------
    plenum_gain_k: float = _c(0.5, "EJ: what supply air gains under the floor")
    recirculation_decay: float = _c(1.6, "EJ: leak of hot air falls with over-supply (CFD, SHI)")
    deficit_softness: float = _c(0.07, "EJ: width of the knee where supply meets server airflow")
    recirculation_max: float = _c(0.85, "EJ: a rack never breathes exhaust alone")
    inlet_tau_s: float = _c(45.0, "EJ: air and steel in front of a rack")
    probe_tau_s: float = _c(12.0, "EJ: lag of an air temperature probe in slow air")
    supply_delay_s: float = _c(20.0, "EJ: 20 m of plenum at 1 m/s")
    plenum_mixing: float = _c(0.50, "EJ: share of a row's air that comes from the common plenum")
    return_tau_s: float = _c(30.0, "EJ: 1,500 m3 of air over 50 m3/s")
    structure_kw_k: float = _c(2.0, "EJ: slab, walls and steel of a row against its air")
    structure_kj_k: float = _c(5000.0, "EJ: 5 t of concrete and steel a row that take part")
    envelope_kw_k: float = _c(0.9, "EJ: 600 m2 at 1.5 W/m2K")
    lights_kw: float = _c(4.0, "EJ: 8 W/m2 on 500 m2")
    containment_pa: float = _c(12.0, "EJ: pressure across containment at 100 % over-supply")

    # --- CRAC units (chilled water) ----------------------------------------------------
    crac_air_max_m3s: float = _c(4.6, "EJ: 100 kW class unit, 16,500 m3/h")
    crac_fan_max_kw: float = _c(5.0, "EJ: EC fans 0.30 W per m3/h at full speed, raised floor")
    crac_idle_kw: float = _c(0.15, "EJ: controller, valve, sensors")
    crac_fan_tau_s: float = _c(15.0, "EJ: soft ramp of EC fans")
    crac_return_set_c: float = _c(24.0, "ASHRAE 2004 practice: return air control at 22-24 degC")
    crac_return_speed: float = _c(0.80, "EJ: speed of the auto controller at its return set point")
    crac_return_gain_per_k: float = _c(0.05, "EJ: proportional band of 8 K from 60 to 100 %")
    crac_auto_min: float = _c(0.60, "EJ: minimum airflow of the auto controller")
    coil_ua_air_kw_k: float = _c(13.0, "EJ: air side of a 6-row coil at full flow")
    coil_ua_water_kw_k: float = _c(26.0, "EJ: water side of a 6-row coil at full flow")
    coil_air_exponent: float = _c(0.6, "ASHRAE: finned tubes, h ~ v^0.5..0.65")
    coil_water_exponent: float = _c(0.8, "ASHRAE: turbulent flow in tubes, Dittus-Boelter")
    valve_exponent: float = _c(1.7, "EJ: equal-percentage valve against a saturating coil")
    coil_tau_s: float = _c(60.0, "EJ: coil and valve actuator")
    coil_dew_fraction: float = _c(0.6, "EJ: coil surface between leaving air and water")

    # --- water: row pump units, loop, CDU ----------------------------------------------
    pump_flow_max_lps: float = _c(5.2, "EJ: 110 kW a row at 5 K")
    pump_max_kw: float = _c(2.3, "EJ: 5.2 l/s x 250 kPa / 0.57")
    pump_tau_s: float = _c(20.0, "EJ: ramp of the drive")
    primary_pump_kw: float = _c(4.5, "EJ: evaporator pumps at constant flow")
    water_loop_tau_s: float = _c(150.0, "EJ: 4 m3 of loop over 30 l/s")

    # --- chillers, tower, economizer ---------------------------------------------------
    chiller_capacity_kw: float = _c(450.0, "EJ: two of them for 500 kW of IT, one as reserve part")
    chiller_cop: float = _c(5.0, "facts: COP about 5 at 6.7 degC chilled water")
    chiller_cop_ref_c: float = _c(6.7, "facts: AHRI 550/590 leaving water")
    chiller_cop_per_k: float = _c(0.025, "facts: 2-3 % a kelvin of chilled water")
    chiller_cond_ref_c: float = _c(26.0, "EJ: condenser water behind chiller_cop, near AHRI's 29.4")
    chiller_cond_per_k: float = _c(0.020, "EJ: 1.5-2.5 % a kelvin of condenser water")
    chiller_plf_best: float = _c(0.70, "AHRI 550/590 curves: best near 60-75 % load")
    chiller_plf_curve: float = _c(
        0.45, "AHRI 550/590 curves: about -10 % COP at full load and 25 %"
    )
    chiller_start: float = _c(
        0.05, "EJ: the first one starts when called for this part of its load"
    )
    chiller_stop: float = _c(0.01, "EJ: it stops at less than this part of it")
    chiller_stage_up: float = _c(0.92, "EJ: next chiller starts at this load of those running")
    chiller_stage_down: float = _c(0.72, "EJ: last one stops below this load of those that stay")
    chiller_tau_s: float = _c(480.0, "facts: chilled water settles in tens of minutes")
    chiller_min_kw: float = _c(1.2, "EJ: oil heater and controls of a chiller that is on")
    tower_approach_k: float = _c(4.5, "ASHRAE: approach 4-5 K at design")
    condenser_min_c: float = _c(19.0, "EJ: lowest entering condenser water the chillers take")
    tower_fan_kw_per_kw: float = _c(0.011, "ASHRAE 90.1: about 90 kW rejected a kW of fan")
    condenser_pump_kw: float = _c(8.0, "EJ: 30 l/s x 150 kPa / 0.6 a running chiller pair")
    economizer_approach_k: float = _c(1.5, "EJ: plate exchanger, water side")
    economizer_effectiveness: float = _c(0.85, "EJ: plate exchanger")
    economizer_start_k: float = _c(1.0, "EJ: return water this much above what the tower can do")
    economizer_pump_kw: float = _c(3.0, "EJ: tower-side pump of the plate exchanger")

    # --- electricity -------------------------------------------------------------------
    ups_rated_kw: float = _c(800.0, "EJ: 2(N) for 600 kW of IT")
    ups_no_load: float = _c(0.018, "EJ: double conversion, 1.5-2 % of rating at no load")
    ups_load: float = _c(0.032, "EJ: double conversion, 95-96 % efficient at half load in all")
    distribution_loss: float = _c(0.018, "EJ: transformers, busways, row PDUs: 1.5-2 %")

    # --- moisture ----------------------------------------------------------------------
    room_air_kg: float = _c(1800.0, "EJ: 1,500 m3 of room and plenum")
    fresh_air_kg_s: float = _c(0.20, "EJ: 0.4 air changes an hour")
    humidifier_dew_c: float = _c(5.5, "ASHRAE TC9.9: supply dew point from 5.5 degC")
    humidifier_kw_per_gps: float = _c(2.7, "physics: steam, 0.75 kWh a kg")
    humidifier_max_gps: float = _c(4.0, "EJ: 14 kg/h, a common cylinder")

    # --- workload ----------------------------------------------------------------------
    prompts_mean_ps: float = _c(324.0, "EJ: sets 0.60 Wh/prompt with the hall as built")
    node_prompts_ps: float = _c(8.0, "EJ: a node at full use; 8 GPUs, 211 tokens a prompt")
    prompt_tokens: float = _c(1155.0, "Azure: mean context tokens of a conversation request")
    generated_tokens: float = _c(211.0, "Azure: mean generated tokens of a conversation request")
    diurnal_swing: float = _c(0.20, "EJ: conversation and code traffic over several time zones")
    diurnal_second: float = _c(0.08, "EJ: a plateau in the morning, a steep end of the day")
    diurnal_peak_h: float = _c(15.5, "EJ: local hour of the busiest time")
    arrival_noise: float = _c(0.015, "EJ: slow noise of arrivals beside Poisson's")
    arrival_noise_tau_s: float = _c(900.0, "EJ: correlation of that noise")
    batch_gain: float = _c(0.22, "EJ: larger prefill batches: energy a prompt falls, saturating")
    batch_gain_ms: float = _c(60.0, "EJ: window of half that gain")
    batch_speed: float = _c(0.5, "EJ: share of the batch gain that becomes speed")
    wait_ms: float = _c(26.0, "EJ: scale of queueing, M/G/c-like s x rho^4 / (1 - rho)")
    long_prompt_fraction: float = _c(0.09, "Azure: share of contexts beyond about 3,500 tokens")
    medium_prompt_fraction: float = _c(0.44, "Azure: share of contexts of 1,000-3,500 tokens")
    short_prefill_ms: float = _c(30.0, "EJ: prefill of a short context")
    medium_prefill_ms: float = _c(48.0, "EJ: prefill of a medium context")
    long_prefill_ms: float = _c(145.0, "EJ: prefill of a long context")
    queue_limit_s: float = _c(20.0, "EJ: the router rejects what would wait longer")
    job_load: float = _c(0.07, "EJ: low-priority jobs (evaluations, embeddings), of capacity")
    job_load_max: float = _c(0.11, "EJ: most that is given to them at 100 % admission")
    job_prompts: float = _c(2000.0, "EJ: one low-priority job in prompts' worth of work")

    # --- weather (Berlin) --------------------------------------------------------------
    year_mean_c: float = _c(10.0, "DWD: annual mean")
    year_swing_c: float = _c(9.6, "DWD: July 19.6, January 0.9")
    year_peak_day: float = _c(201.0, "DWD: warmest in the third week of July")
    day_swing_c: float = _c(4.6, "DWD: half the daily range, mean of the year")
    day_swing_season_c: float = _c(1.6, "DWD: wider in summer, narrower in winter")
    day_peak_h: float = _c(15.0, "DWD: warmest hour, local")
    front_swing_c: float = _c(1.6, "EJ: fronts over days, standard deviation")
    dew_depression_k: float = _c(4.4, "DWD: daily mean above dew point, mean of the year")
    dew_depression_season_k: float = _c(2.2, "DWD: drier days in summer")
    utc_offset_h: float = _c(1.0, "EJ: local solar time of Berlin, near UTC+1")

    # --- sensors -----------------------------------------------------------------------
    noise_air_c: float = _c(0.06, "EJ: PT1000 or digital probe, 1 sigma")
    noise_water_c: float = _c(0.03, "EJ: immersed PT1000, 1 sigma")
    noise_power: float = _c(0.002, "EJ: class 0.5 metering, 1 sigma of the value")
    noise_fan_pct: float = _c(0.15, "EJ: tacho, 1 sigma")
    noise_humidity_pct: float = _c(0.4, "EJ: capacitive sensor, 1 sigma")
    noise_latency: float = _c(0.01, "EJ: sampling of a p95 over a minute")

    # --- limits the meter judges by ----------------------------------------------------
    inlet_max_c: float = _c(28.0, "site file: inlet limit; ASHRAE recommended is 27")
    latency_p95_max_ms: float = _c(250.0, "site file: time to first token, p95")
    rack_max_kw: float = _c(12.0, "site file: rack limit")


CONSTANTS = Constants()


def sources() -> dict[str, tuple[float, str]]:
    """Return name -> (value, source) of every constant, for the documents and the tests."""
    return {
        f.name: (float(getattr(CONSTANTS, f.name)), str(f.metadata["source"]))
        for f in fields(Constants)
    }
