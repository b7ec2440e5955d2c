"""The read planner: every address once, within limits, out of holes; splitting ends."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.addresses import REGISTER_WORDS, ModbusAddress
from drivers.plan import Hole, Limits, Span, plan_reads, split_span
from tests.drivers.make import register

addresses = st.lists(
    st.one_of(
        st.builds(
            ModbusAddress,
            st.sampled_from(["input", "holding"]),
            st.integers(0, 400),
            st.sampled_from(sorted(REGISTER_WORDS)),
        ),
        st.builds(ModbusAddress, st.sampled_from(["coil", "discrete"]), st.integers(0, 3000)),
    ).filter(lambda a: a.type == "bool" or a.kind in ("input", "holding")),
    max_size=40,
)
bit = st.builds(ModbusAddress, st.just("coil"), st.integers(0, 3000), st.just("bool"))
limits = st.builds(Limits, st.integers(4, 125), st.integers(0, 60))


@given(addresses | st.lists(bit, max_size=40), limits)
def test_each_address_is_read_whole_exactly_once_within_the_limits(
    wanted: list[ModbusAddress], limits: Limits
) -> None:
    spans = plan_reads(wanted, limits)
    assert sorted(i for s in spans for i in s.items) == list(range(len(wanted)))
    for span in spans:
        size = 16 if span.kind in ("coil", "discrete") else 1
        assert span.count <= limits.max_registers * size
        covered = set()
        for i in span.items:
            a = wanted[i]
            assert a.kind == span.kind
            assert span.start <= a.offset
            assert a.offset + a.words <= span.end
            covered |= set(range(a.offset, a.offset + a.words))
        gaps = sorted(covered | {span.start, span.end - 1})
        assert {span.start, span.end - 1} <= covered
        assert all(b - a <= limits.max_gap * size + 1 for a, b in itertools.pairwise(gaps))


@given(st.sets(st.integers(0, 60), min_size=1), st.sets(st.integers(0, 60)))
def test_no_request_touches_a_hole(wanted: set[int], unread: set[int]) -> None:
    wanted = wanted - unread
    holes = tuple(Hole("holding", a, a) for a in unread)
    spans = plan_reads([register(f"holding:{a}") for a in wanted], Limits(125, 100, holes))
    asked = {a for s in spans for a in range(s.start, s.end)}
    assert wanted <= asked
    assert not asked & unread


def test_an_address_in_a_hole_is_refused() -> None:
    with pytest.raises(ValueError, match="holding:5 lies in the hole 4-6"):
        plan_reads([register("holding:5")], Limits(holes=(Hole("holding", 4, 6),)))


def test_neighbours_join_and_the_gap_is_a_limit() -> None:
    at = [register(f"holding:{a}") for a in (0, 1, 5, 20)]
    assert [(s.start, s.count) for s in plan_reads(at, Limits(max_gap=3))] == [(0, 6), (20, 1)]
    assert [(s.start, s.count) for s in plan_reads(at, Limits(max_gap=2))] == [
        (0, 2),
        (5, 1),
        (20, 1),
    ]
    assert next((s.start, s.count) for s in plan_reads(at, Limits(max_registers=5))) == (0, 2)


def test_a_wide_value_is_never_torn() -> None:
    at = [register("input:0", "float64"), register("input:4", "float64")]
    assert [(s.start, s.count) for s in plan_reads(at, Limits(max_registers=6))] == [(0, 4), (4, 4)]
    assert [(s.start, s.count) for s in plan_reads(at[:1], Limits(max_registers=2))] == [(0, 4)]


@given(addresses.filter(bool), limits)
def test_splitting_ends_at_single_addresses_and_loses_none(
    wanted: list[ModbusAddress], limits: Limits
) -> None:
    alone: list[int] = []
    todo: list[Span] = list(plan_reads(wanted, limits))
    while todo:
        span = todo.pop()
        parts = split_span(span, wanted)
        assert sorted(i for p in parts for i in p.items) == (sorted(span.items) if parts else [])
        assert all(len(p.items) < len(span.items) for p in parts)
        if not parts:
            assert len(span.items) == 1
            alone += span.items
        todo += parts
    assert sorted(alone) == list(range(len(wanted)))
