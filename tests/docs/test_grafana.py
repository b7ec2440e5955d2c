"""Dashboards and alert rules ask for what exists: metrics and labels of a running agent, and SQL that a
real PostgreSQL with the migrated schema answers."""

import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import promql_parser as promql
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from agent.history.db import make_engine, migrate
from agent.polling import DeviceStats
from config.secrets import SecretRef
from control.types import Finding
from tests.agent import make as history_site
from tests.agent.postgres import Lent, Postgres, database, psql
from tests.api.make import House, hall_site, house

FOLDER = Path(__file__).parents[2] / "docs" / "grafana"
ADDED = {"job", "instance"}  # labels that Prometheus itself gives


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("grafana_make", FOLDER / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def targets(source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted((FOLDER / source).glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']}", target


def test_the_files_are_what_the_table_makes() -> None:
    made = load().made()
    assert set(FOLDER.rglob("*.json")) == set(made)
    for path, text in made.items():
        assert path.read_text(encoding="utf-8") == text, f"run  python {FOLDER}/make.py"
        panels = json.loads(text)["panels"]
        places = {(x, y) for p in panels if (g := p["gridPos"])
                  for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])}  # fmt: skip
        assert len(places) == sum(p["gridPos"]["w"] * p["gridPos"]["h"] for p in panels), path.name


class _Door:
    connected = True


async def labels_of(folder: Path) -> dict[str, set[str]]:
    """Each metric of a running agent with its labels."""
    async with house(folder, hall_site(folder, push=False)) as hall:
        await _known(hall)
        async with aiohttp.ClientSession() as session, session.get(hall.url + "/metrics") as answer:
            text = await answer.text()
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


async def _known(hall: House) -> None:
    await hall.minutes(6)
    hall.agent.control = replace(hall.agent.control, findings={
        "row:A": Finding("row:A", 1.0, 1.0, "nominal", hall.clock.now_s())})  # fmt: skip
    hall.polls |= {d.id: DeviceStats(polls=3, errors=1) for d in hall.site.devices[:2]}
    hall.api.context.mirror = _Door()  # type: ignore[assignment]


def selectors(node: Any) -> Iterator[tuple[str, set[str]]]:
    """(metric, labels asked for) of every selector in a query."""
    match node:
        case promql.VectorSelector():
            yield node.name, {m.name for m in node.matchers.matchers}
        case promql.MatrixSelector():
            yield from selectors(node.vector_selector)
        case (
            promql.SubqueryExpr() | promql.ParenExpr() | promql.AggregateExpr() | promql.UnaryExpr()
        ):
            yield from selectors(node.expr)
        case promql.BinaryExpr():
            yield from selectors(node.lhs)
            yield from selectors(node.rhs)
        case promql.Call():
            for argument in node.args:
                yield from selectors(argument)


async def test_each_promql_query_names_metrics_and_labels_that_exist(tmp_path: Path) -> None:
    known = await labels_of(tmp_path) | {"up": {"job"}}  # Prometheus's own
    rules = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
    queries = [(r["alert"], r["expr"], "") for r in rules]
    queries += [(name, t["expr"], t["legendFormat"]) for name, t in targets("prometheus")]
    asked = 0
    for name, query, legend in queries:
        parsed = promql.parse(
            query.replace("$site", "s").replace("$area", "a").replace("$row", "A")
        )
        named = list(selectors(parsed))
        assert named, name
        for metric, labels in named:
            assert metric in known, f"{name}: no metric {metric}"
            assert labels <= known[metric], f"{name}: {metric} has no {labels - known[metric]}"
        first = known[named[0][0]]
        assert set(re.findall(r"{{(\w+)}}", legend)) <= first | ADDED, name
        for by in re.findall(r"by \(([^)]*)\)", query):
            assert set(by.split(", ")) <= first | ADDED, name
        asked += len(named)
    assert asked > 80
    for rule in rules:
        assert {"summary", "advice"} <= rule["annotations"].keys(), rule["alert"]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres | Lent]:
    given = database()
    yield given
    given.remove()


SEED = """
INSERT INTO series (site, area, point, device, quantity, unit, "row", rack)
  SELECT 's', 'a', 'd/' || q, 'd', q, '1', 'A', 'A01' FROM unnest(ARRAY['total_power_kw', 'it_power_kw',
  'cooling_power_kw', 'inlet_c', 'latency_p95_ms', 'prompts_ps', 'pdu_kw', 'fan_rpm_pct']) q;
INSERT INTO rollups_1m (site, area, point, ts, n, n_missing, mean, low, high)
  SELECT site, area, point, now() - interval '5 min', 10, 2, 5, 4, 6 FROM series;
INSERT INTO ims_scores (site, area, unit, ts, deviation, ema, heat, state, since, top)
  VALUES ('s', 'a', 'row:A', now() - interval '5 min', 3, 3, 1, 'transient', now() - interval '6 min', '[]');
INSERT INTO history_gaps (site, area, stream, since, until, dropped)
  VALUES ('s', 'a', 'telemetry_raw', now() - interval '9 min', now() - interval '8 min', 7);
INSERT INTO ims_model (site, area, version, id, created, active, note, document)
  VALUES ('s', 'a', 1, 'm', now(), true, '', '{}');
INSERT INTO optimizer_actions (site, area, uid, ts, cycle, kind, loop, move, scope, detail)
  SELECT 's', 'a', k, now() - interval '5 min', 's1', k, 'slow', 'fan', 'zone:A',
  '{"predicted_kw": -1.5, "realised_kw": -1.25, "undo": null, "rule": "deviation", "severity": "high", "state":
    "normal", "text": "t", "advice": "a", "reason": "r"}'
  FROM unnest(ARRAY['action', 'judged', 'decision', 'alarm', 'ending']) k;
"""


async def test_each_sql_query_is_answered_by_postgresql(postgres: Postgres | Lent) -> None:
    site = history_site.site(url=postgres.url, password=SecretRef(env="PG"))
    engine = make_engine(site, {"PG": postgres.password})
    await migrate(engine)
    url = engine.url.set(drivername="postgresql")
    await engine.dispose()
    psql(url, SEED)
    asked = 0
    for name, target in targets("postgresql"):
        rows = psql(url, plain_sql(target["rawSql"]))
        assert rows, f"{name}: nothing came back"
        asked += 1
    for path in (FOLDER / "postgresql").glob("*.json"):
        for variable in json.loads(path.read_text())["templating"]["list"]:
            assert psql(url, plain_sql(variable["query"])), variable["name"]
    assert asked > 15
    [made] = [
        t for n, t in targets("postgresql") if n.endswith("Expected against realised, by move")
    ]
    assert psql(url, plain_sql(made["rawSql"])) == [["fan", "1", "-1.5", "-1.25", "0"]]


def plain_sql(text: str) -> str:
    """What Grafana makes of its macros and variables."""
    text = re.sub(
        r"\$__timeFilter\(([\w.]+)\)", r"\1 BETWEEN now() - interval '1 h' AND now()", text
    )
    text = text.replace("$site", "s").replace("$area", "a").replace("$row", "'A','B'")
    assert "$" not in text
    return text
