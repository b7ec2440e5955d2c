"""What commands explain: learned through dirt, and taken in at once where nothing was learned."""

import numpy as np
import pytest

from control.context import (
    CONTEXT,
    Context,
    ContextModel,
    fit_context,
    learned,
    without_context,
)
from control.holdoff import HOLD_S, ORDERS, absorb, allowances
from control.layout import FEATURES
from control.monitor import heat
from tests.monitoring.test_maintenance import MODEL

INLET, PDU = FEATURES.index("inlet_c"), FEATURES.index("pdu_kw")
COLUMN = {name: i for i, name in enumerate(CONTEXT)}


def hall(rows: int, window_ms: np.ndarray | float, seed: int = 1) -> tuple[np.ndarray, Context]:
    """One unit: inlets follow supply air and hall; power follows work, a little less with a window."""
    rng = np.random.default_rng(seed)
    c = np.zeros((rows, 1, len(CONTEXT)))
    c[:, 0, COLUMN["supply_k"]] = 18 + np.repeat(rng.uniform(0, 5, rows // 50 + 1), 50)[:rows]
    c[:, 0, COLUMN["work"]] = 50 + 10 * np.sin(np.arange(rows) / 300)
    c[:, 0, COLUMN["batch_ms"]] = window_ms
    c[..., COLUMN["batched_work"]] = c[..., COLUMN["work"]] * c[..., COLUMN["batch_ms"]] / 100
    x = np.full((rows, 1, len(FEATURES)), 50.0)
    x[:, 0, INLET] = 2 + c[:, 0, COLUMN["supply_k"]] + rng.normal(0, 0.05, rows)
    work, batched = c[:, 0, COLUMN["work"]], c[:, 0, COLUMN["batched_work"]]
    x[:, 0, PDU] = 3 + 0.08 * work - 0.02 * (batched - work * 0.4) + rng.normal(0, 0.02, rows)
    return x, Context(c, c, c)


def fitted(x: np.ndarray, context: Context) -> ContextModel:
    return fit_context(x, context, ("rack:A01",), np.arange(len(x)) < len(x) // 3)


def test_a_hall_driven_into_saturation_does_not_bend_what_was_learned() -> None:
    x, context = hall(3000, 40.0)
    rng = np.random.default_rng(2)
    hot = rng.random(3000) < 0.15
    x[hot, 0, INLET] += 4.0 + 0.3 * (context.now[hot, 0, COLUMN["work"]] - 50)
    model = fitted(x, context)
    assert model.slopes[0, COLUMN["supply_k"], INLET] == pytest.approx(1.0, abs=0.05)
    assert model.slopes[0, COLUMN["work"], INLET] == pytest.approx(0.0, abs=0.005)


def test_a_window_that_never_changed_teaches_nothing_and_is_not_taken_for_work() -> None:
    x, context = hall(3000, 40.0)
    model = fitted(x, context)
    seen = dict(zip(CONTEXT, learned(model)[0], strict=True))
    assert seen["work"]
    assert not seen["batched_work"]
    assert not seen["batch_ms"]
    longer, moved = hall(3000, 80.0, seed=3)
    left = [
        np.median([
            without_context(model, row, Context(now, now, now))[0][0, PDU]
            for row, now in zip(rows, c.now, strict=True)
        ])
        for rows, c in ((x, context), (longer, moved))
    ]  # fmt: skip
    saved = 0.02 * 50 * 0.4
    assert left[1] - left[0] == pytest.approx(-saved, abs=0.1)


def test_a_window_that_changed_is_learned() -> None:
    window = 40.0 + 40.0 * (np.arange(3000) // 200 % 2)
    window[:1000] = 40.0
    x, context = hall(3000, window)
    model = fitted(x, context)
    slopes = model.slopes[0, :, PDU]
    told = 40.0 * slopes[COLUMN["batch_ms"]] + 50.0 * 0.4 * slopes[COLUMN["batched_work"]]
    assert told == pytest.approx(-0.02 * 50 * 0.4, abs=0.05)


def test_an_order_nobody_knows_is_taken_in_at_once_and_no_further_than_physics() -> None:
    o, f = len(ORDERS), len(FEATURES)
    unseen = np.zeros((1, o), dtype=bool)
    unseen[0, ORDERS.index("batch_ms")] = True
    usual = np.full((1, f), 8.0)
    known = np.zeros((1, o), dtype=bool)
    scales, slopes = np.full(f, 0.01), np.zeros((1, o, f))
    wide, narrow = (allowances(scales, slopes, u, usual) for u in (unseen, known))
    assert wide[0, ORDERS.index("batch_ms"), PDU] == pytest.approx(0.08 * 8.0)
    assert (wide[0, ORDERS.index("supply_k")] == narrow[0, ORDERS.index("supply_k")]).all()

    nominal, orders, rest = np.array([True]), np.zeros((1, o)), np.full((1, f), 8.0)
    before = absorb(wide, None, orders, rest, nominal, 5.0, unseen)
    orders = orders.copy()
    orders[0, ORDERS.index("batch_ms")] = 40.0
    for off, absorbed in ((-0.4, -0.4), (-3.0, -0.64)):
        now = absorb(wide, before, orders, rest + off, nominal, 5.0, unseen)
        assert now.offset[0, PDU] == pytest.approx(absorbed, abs=0.02)
    late = absorb(wide, before, before.orders, rest - 0.4, nominal, HOLD_S, unseen)
    assert late.offset[0, PDU] == 0.0, "without a move nothing is absorbed"


def test_what_context_has_moved_an_inlet_by_is_what_it_may_be_wrong_about() -> None:
    x, context = hall(3000, 40.0)
    model = fitted(x, context)
    still = model.reference.copy()
    still[0, [COLUMN[c] for c in ("fan_pct", "pump_pct", "hall_fan_pct")]] = (
        100.0  # none holds back
    )
    row = np.full((1, len(FEATURES)), 50.0)
    moved_k = without_context(model, row, Context(still, still, still))[1]
    assert moved_k[0] == pytest.approx(0.0, abs=0.01)
    warmer = still.copy()
    warmer[0, COLUMN["supply_k"]] += 4.0
    moved_k = without_context(model, row, Context(warmer, warmer, warmer))[1]
    assert moved_k[0] == pytest.approx(4.0, abs=0.3)


def test_heat_is_what_is_left_beyond_that_doubt_and_never_less_than_nothing() -> None:
    model, at = MODEL.ims, np.zeros(1, dtype=np.intp)
    x = model.offset[None].copy()
    x[0, model.features.index("inlet_c")] += 2.0
    plain, doubted, drowned = (heat(x, model, at, np.array([k]))[0] for k in (0.0, 0.5, 3.0))
    assert (plain, doubted, drowned) == pytest.approx((2.0, 1.5, 0.0))
    x[0, model.features.index("inlet_c")] -= 4.0
    assert heat(x, model, at, np.array([3.0]))[0] == pytest.approx(-2.0), "cold stays cold"
