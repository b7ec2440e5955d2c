"""The child process around EnergyPlus: one simulation, stepped by lines of JSON.

Runs as a program (`python -m agent.plants.energyplus_engine`), because the engine owns its thread,
its process state and its standard output. First line in: the job. Then {"steps": n, "set":
{schedule: value}} asks for n time steps and is answered by one line of readings. It decides
nothing about the plant. When its parent goes away it ends at once.
"""

import ctypes
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

_RUN_PERIOD = 3  # kindOfSim: a weather-file run period (EnergyPlus, DataGlobalConstants)
# What the engine itself counts, beside the powers we add up. Together they are Electricity:Facility,
# which the API of 25.2 can't give (it takes the first meter's index, 0, for none).
_METERS = (b"Electricity:Building", b"Electricity:HVAC", b"Electricity:Plant")
_NO_HEATING_C = -50.0  # while the engine warms up; see Prepared.unheated
_STATE = ctypes.c_void_p
_CALLBACK = ctypes.CFUNCTYPE(None, _STATE)
_TEXT, _INT, _REAL = ctypes.c_char_p, ctypes.c_int, ctypes.c_double

# Function -> (result, arguments), from api/datatransfer.h, runtime.h and state.h of EnergyPlus 25.2.
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "stateNewPython": (_STATE, ()),
    "setEnergyPlusRootDirectory": (None, (_STATE, _TEXT)),
    "setConsoleOutputState": (None, (_STATE, _INT)),
    "requestVariable": (None, (_STATE, _TEXT, _TEXT)),
    "callbackBeginZoneTimestepBeforeSetCurrentWeather": (None, (_STATE, _CALLBACK)),
    "callbackEndOfSystemTimeStepAfterHVACReporting": (None, (_STATE, _CALLBACK)),
    "callbackEndOfZoneTimeStepAfterZoneReporting": (None, (_STATE, _CALLBACK)),
    "energyplus": (_INT, (_STATE, _INT, ctypes.POINTER(_TEXT))),
    "stopSimulation": (None, (_STATE,)),
    "apiDataFullyReady": (_INT, (_STATE,)),
    "apiErrorFlag": (_INT, (_STATE,)),
    "warmupFlag": (_INT, (_STATE,)),
    "kindOfSim": (_INT, (_STATE,)),
    "systemTimeStep": (_REAL, (_STATE,)),
    "getVariableHandle": (_INT, (_STATE, _TEXT, _TEXT)),
    "getVariableValue": (_REAL, (_STATE, _INT)),
    "getMeterHandle": (_INT, (_STATE, _TEXT)),
    "getMeterValue": (_REAL, (_STATE, _INT)),
    "getActuatorHandle": (_INT, (_STATE, _TEXT, _TEXT, _TEXT)),
    "setActuatorValue": (None, (_STATE, _INT, _REAL)),
    "resetActuator": (None, (_STATE, _INT)),
}


class JobError(Exception):
    """The engine can't do what was asked; the message says what is missing."""


class Engine:
    """One run of EnergyPlus, halted between time steps until it is told to go on."""

    def __init__(self, job: dict[str, Any], orders: TextIO, answers: TextIO) -> None:
        self._job, self._orders, self._answers = job, orders, answers
        self._lib: Any = ctypes.CDLL(job["library"])
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(self._lib, name)
            function.restype, function.argtypes = result, list(arguments)
        self._state = self._lib.stateNewPython()
        self._outputs: list[tuple[str, str]] = [tuple(o) for o in job["outputs"]]
        self._values = {schedule: float(v) for schedule, v in job["set"].items()}
        self._handles: list[int] = []
        self._actuators: dict[str, int] = {}
        self._unheated: list[int] = []
        self._meters: list[int] = []
        self._left = 0
        self._begin()
        self.error: BaseException | None = None
        self._kept = [
            self._on("callbackBeginZoneTimestepBeforeSetCurrentWeather", self._start_step),
            self._on("callbackEndOfSystemTimeStepAfterHVACReporting", self._add_up),
            self._on("callbackEndOfZoneTimeStepAfterZoneReporting", self._end_step),
        ]

    def run(self) -> int:
        """Run to the end of the period; the engine's exit code (0: well)."""
        lib, state, job = self._lib, self._state, self._job
        lib.setEnergyPlusRootDirectory(state, job["root"].encode())
        lib.setConsoleOutputState(state, 0)
        for variable, key in self._outputs:
            lib.requestVariable(state, variable.encode(), key.encode())
        words = ["energyplus", "-d", job["folder"], "-w", job["weather"], job["model"]]
        argv = (ctypes.c_char_p * len(words))(*(w.encode() for w in words))
        code: int = lib.energyplus(state, len(words), argv)
        if self.error is not None:
            raise self.error
        return code

    def _on(self, name: str, act: Callable[[], None]) -> Any:
        """Register a callback; what it raises is kept and stops the run, as C can't pass it on."""

        def call(_state: int) -> None:
            try:
                if self.error is None and self._in_run_period():
                    act()
            except Exception as error:  # noqa: BLE001 - re-raised by run()
                self.error = error
                self._lib.stopSimulation(self._state)

        wrapped = _CALLBACK(call)
        getattr(self._lib, name)(self._state, wrapped)
        return wrapped

    def _in_run_period(self) -> bool:
        lib, state = self._lib, self._state
        return bool(lib.apiDataFullyReady(state) and lib.kindOfSim(state) == _RUN_PERIOD)

    def _warming(self) -> bool:
        return bool(self._lib.warmupFlag(self._state))

    def _begin(self) -> None:
        self._last = [0.0] * len(self._outputs)
        self._sums = [0.0] * len(self._outputs)
        self._hours = self._joules = 0.0

    def _start_step(self) -> None:
        if not self._handles:
            self._find()
        if self._warming():
            for handle in self._unheated:
                self._lib.setActuatorValue(self._state, handle, _NO_HEATING_C)
            return
        while self._unheated:
            self._lib.resetActuator(self._state, self._unheated.pop())
        if self._left == 0:
            self._await_order()
        for schedule, value in self._values.items():
            self._lib.setActuatorValue(self._state, self._actuators[schedule], value)

    def _await_order(self) -> None:
        line = self._orders.readline()
        if not line:
            os._exit(0)  # the parent has closed the plant, or is gone
        order = json.loads(line)
        self._left = int(order["steps"])
        self._values |= {s: float(v) for s, v in order["set"].items()}
        self._begin()

    def _find(self) -> None:
        lib, state = self._lib, self._state
        self._handles = [
            lib.getVariableHandle(state, v.encode(), k.encode()) for v, k in self._outputs
        ]
        missing = [f"{v} of {k}" for h, (v, k) in zip(self._handles, self._outputs, strict=True) if h < 0]  # fmt: skip
        if missing:
            raise JobError(f"the model has no output {', '.join(missing)}")
        meters = [lib.getMeterHandle(state, name) for name in _METERS]
        self._meters = [m for m in meters if m >= 0]
        for schedule in self._values:
            handle = lib.getActuatorHandle(
                state, b"Schedule:Constant", b"Schedule Value", schedule.encode()
            )
            if handle < 0:
                raise JobError(f"the schedule {schedule!r} can't be commanded")
            self._actuators[schedule] = handle
        for kind, name in self._job["unheated"]:
            handle = lib.getActuatorHandle(state, kind.encode(), b"Schedule Value", name.encode())
            if handle >= 0:
                self._unheated.append(handle)

    def _add_up(self) -> None:
        """The engine shortens its own steps when it must: powers are weighted by their length."""
        if self._warming():
            return
        hours = self._lib.systemTimeStep(self._state)
        self._hours += hours
        for i, handle in enumerate(self._handles):
            self._last[i] = self._lib.getVariableValue(self._state, handle)
            self._sums[i] += self._last[i] * hours

    def _end_step(self) -> None:
        if self._warming():
            return
        self._joules += sum(self._lib.getMeterValue(self._state, m) for m in self._meters)
        self._left -= 1
        if self._left == 0:
            means = [s / self._hours for s in self._sums] if self._hours else self._last
            self.say({"last": self._last, "mean": means, "facility_j": self._joules})

    def say(self, answer: dict[str, Any]) -> None:
        """One line to the parent."""
        self._answers.write(json.dumps(answer) + "\n")
        self._answers.flush()


def main() -> int:
    """Read the job, run it, answer each order; the last line is {"end": code} or {"error": text}."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    job = json.loads(sys.stdin.readline())
    noise = os.open(Path(job["folder"]) / "console.txt", os.O_WRONLY | os.O_CREAT, 0o600)
    os.dup2(noise, 1)  # the engine prints; our answers go to the descriptor kept above
    engine = Engine(job, sys.stdin, answers)
    try:
        engine.say({"end": engine.run()})
    except (JobError, OSError, ValueError) as error:
        engine.say({"error": str(error)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
