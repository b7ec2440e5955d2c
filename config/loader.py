"""Loads a site file: TOML, includes, environment, profiles; all problems at once.

Never touches the network or data_dir. Either returns a whole `Site` or raises ConfigError
with every problem as file:line: key: text.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from config.checks import check_ids, check_site
from config.errors import ConfigError, Problem
from config.lines import Lines
from config.lines import Path as KeyPath
from config.resolve import Parsed, resolve_devices
from config.schema import (
    AgentSection,
    ApiSection,
    DeviceSection,
    HistorySection,
    ImsSection,
    InterlockSection,
    LimitsSection,
    LoopsSection,
    MmsSection,
    MqttSection,
    OptimizerSection,
    PairSection,
    PointSection,
    RowSection,
    Section,
    SiteSection,
    UnitSection,
    closest,
)
from config.site import Interlock, Site, Unit
from config.sources import S, Source, Sourced, parse

CONFIG_VERSION = 1
MAX_BYTES = 4_000_000

SECTIONS: dict[str, type[Section]] = {
    "site": SiteSection,
    "agent": AgentSection,
    "loops": LoopsSection,
    "limits": LimitsSection,
    "ims": ImsSection,
    "mms": MmsSection,
    "optimizer": OptimizerSection,
    "history": HistorySection,
    "mqtt": MqttSection,
    "api": ApiSection,
    "pair": PairSection,
}
OPTIONAL = frozenset({"mqtt", "api", "pair"})
LISTS: dict[str, type[Section]] = {
    "device": DeviceSection,
    "interlock": InterlockSection,
    "unit": UnitSection,
    "row": RowSection,
}


def load_site(path: Path, environ: Mapping[str, str] | None = None) -> Site:
    """Load and check a site file. Raises ConfigError with all problems."""
    loader = _Loader(path, dict(os.environ if environ is None else environ))
    site = loader.load()
    if loader.problems or site is None:
        raise ConfigError(loader.problems)
    return site


def site_environment(path: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with a `.env` beside the site file under it."""
    beside = {k: v for k, v in dotenv_values(path.parent / ".env").items() if v is not None}
    return {**beside, **environ}


TWICE = ": two files in one? Keep config_version and [site] once, and each [[device]]"


class _Loader:
    """Collects problems while it goes; one use a load."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self.path = path
        self.environ = site_environment(path, environ)
        self.problems: list[Problem] = []
        self.sections: dict[str, dict[str, Any]] = {}
        self.section_source: dict[str, Source] = {}
        self.items: dict[str, list[Sourced[dict[str, Any]]]] = {name: [] for name in LISTS}

    def load(self) -> Site | None:
        main = self._read(self.path, str(self.path))
        if main is None:
            return None
        self._take(*main)
        if "site" not in main[0]:
            self._problem(main[1], ("site",), 'is missing; add [site] with id = "..."')
        version = main[0].get("config_version")
        if version != CONFIG_VERSION or version is True:
            self._problem(main[1], ("config_version",), f"is {version!r}; write config_version = 1")
        self._include(main[0].get("agent"), main[1])
        self._override_from_environment()
        sections = {name: self._section(name) for name in SECTIONS}
        devices = [d for item in self.items["device"] if (d := self._device(item))]
        rows = [r for item in self.items["row"] if (r := self._parse(RowSection, item))]
        locks = [
            i for item in self.items["interlock"] if (i := self._parse(InterlockSection, item))
        ]
        units = [u for item in self.items["unit"] if (u := self._parse(UnitSection, item))]
        agent = sections["agent"] or AgentSection()
        limits = sections["limits"] or LimitsSection()
        assert isinstance(agent, AgentSection)
        assert isinstance(limits, LimitsSection)
        resolved = resolve_devices(devices, rows, agent, limits, self.problems)
        site = Site(
            **self._site_fields(sections),
            devices=tuple(resolved),
            interlocks=tuple(Interlock(**i.value.model_dump()) for i in locks),
            units=tuple(Unit(**u.value.model_dump()) for u in units),
            source=self.path,
        )
        sources = self._sources(devices)
        check_site(site, sources, locks, units, self.section_source, self.problems)
        return site

    def _sources(self, devices: list[Parsed]) -> dict[str, Source]:
        """Where each device and point stands; ids that stand twice are problems."""
        named = [(d.value.id, d.source) for d, _ in devices]
        points = [(f"{d.value.id}/{p.value.id}", p.source) for d, ps in devices for p in ps]
        check_ids(named, points, self.problems)
        return _Fallback({**dict(named), **dict(points)})

    def _site_fields(self, sections: dict[str, Section | None]) -> dict[str, Any]:
        about = sections.pop("site") or SiteSection(id="unnamed")
        assert isinstance(about, SiteSection)
        filled = {
            name: section if section is not None or name in OPTIONAL else SECTIONS[name]()
            for name, section in sections.items()
        }
        return {"id": about.id, "area": about.area, "timezone": about.timezone,
                "simulated": about.simulated, **filled}  # fmt: skip

    def _problem(self, source: Source, path: KeyPath, text: str) -> None:
        self.problems.append(source.problem(path, text))

    def _read(self, path: Path, shown: str) -> tuple[dict[str, Any], Source] | None:
        """Parse one file; a problem instead of an exception when it can't be."""
        try:
            raw = path.read_bytes()
            if len(raw) > MAX_BYTES:
                raise ValueError(f"is {len(raw)} bytes; a site file has at most {MAX_BYTES}")
            text = raw.decode("utf-8")
            return tomllib.loads(text), Source(shown, Lines(text), ())
        except OSError as error:
            reason = f"can't be read: {error.strerror}; {_way_out(error, shown)}"
            self.problems.append(Problem(shown, 1, "file", reason))
        except tomllib.TOMLDecodeError as error:
            at = re.search(r"line (\d+)", str(error))
            hint = TWICE if re.search(r"twice|overwrite", str(error)) else ""
            self.problems.append(
                Problem(shown, int(at[1]) if at else 1, "syntax", f"not TOML: {error}{hint}")
            )
        except (UnicodeDecodeError, ValueError, RecursionError) as error:
            self.problems.append(Problem(shown, 1, "file", f"not a UTF-8 site file: {error}"))
        return None

    def _take(self, data: dict[str, Any], source: Source) -> None:
        """Sort a file's tables into sections and lists."""
        for name, value in data.items():
            if name in SECTIONS:
                self._take_section(name, value, source)
            elif name in LISTS:
                if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
                    self._problem(source, (name,), f"write it as [[{name}]]")
                    continue
                self.items[name] += [Sourced(v, source.at(name, i)) for i, v in enumerate(value)]
            elif name != "config_version":
                known = [*SECTIONS, *LISTS, "config_version"]
                self._problem(source, (name,), f"unknown key{closest(name, known)}")

    def _take_section(self, name: str, value: Any, source: Source) -> None:
        if not isinstance(value, dict):
            self._problem(source, (name,), f"write it as [{name}]")
        elif name in self.section_source:
            self._problem(source, (name,), f"stands already in {self.section_source[name].file}")
        else:
            self.sections[name] = dict(value)
            self.section_source[name] = source.at(name)

    def _include(self, agent: Any, source: Source) -> None:
        patterns = agent.get("include", []) if isinstance(agent, dict) else []
        for pattern in patterns if isinstance(patterns, list) else []:
            if not isinstance(pattern, str) or not pattern:
                continue  # the schema names it
            if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
                self._problem(
                    source, ("agent", "include"), f"{pattern!r}: stay below the site file's folder"
                )
                continue
            found = sorted(self.path.parent.glob(pattern))
            if not found and not any(c in pattern for c in "*?["):
                self._problem(source, ("agent", "include"), f"{pattern!r}: no such file")
            for file in found:
                if read := self._read(file, str(file)):
                    self._take(*read)

    def _override_from_environment(self) -> None:
        """SKADI_SECTION__KEY=value wins over the file; the value is read as TOML, else as text."""
        for name, text in sorted(self.environ.items()):
            match = re.fullmatch(r"SKADI_([A-Z]+)__([A-Z0-9_]+)", name)
            if not match:
                continue
            section, key = match[1].lower(), match[2].lower()
            if section not in SECTIONS or key not in SECTIONS[section].model_fields:
                self.problems.append(
                    Problem("environment", 1, name, "names no key of a section; unset it")
                )
                continue
            try:
                value = tomllib.loads(f"value = {text}")["value"]
            except tomllib.TOMLDecodeError:
                value = text
            self.sections.setdefault(section, {})[key] = value
            source = self.section_source.setdefault(
                section, Source(str(self.path), Lines(""), (section,))
            )
            source.overrides[key] = name

    def _section(self, name: str) -> Section | None:
        if name not in self.sections:
            return None
        source = self.section_source[name]
        parsed = self._parse(SECTIONS[name], Sourced(self.sections[name], source))
        return parsed.value if parsed else None

    def _device(self, item: Sourced[dict[str, Any]]) -> Parsed | None:
        device = self._parse(DeviceSection, item)
        points = item.value.get("point", [])
        if not isinstance(points, list):
            self._problem(item.source, ("point",), "write it as [[device.point]]")
            points = []
        parsed = [
            p
            for i, raw in enumerate(points)
            if (p := self._parse(PointSection, Sourced(raw, item.source.at("point", i))))
        ]
        return (device, parsed) if device else None

    def _parse(self, model: type[S], item: Sourced[Any]) -> Sourced[S] | None:
        return parse(model, item, self.problems)


def _way_out(error: OSError, shown: str) -> str:
    """What to do about a file that can't be read."""
    match error:
        case FileNotFoundError():
            return f"check the path (-c FILE), or begin one with  skadi init {shown}"
        case PermissionError():
            return "read it as the agent's user (sudo -u skadi skadi ...), or as root"
        case _:
            return "check the path"


class _Fallback(dict[str, Source]):
    """Points that come from a profile stand where their device stands."""

    def __missing__(self, key: str) -> Source:
        return self[key.partition("/")[0]]
