"""The arithmetic of a change: its parts always add up to it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askstream.agents.insights.changes import Flow, effects, parts_of_ratio, parts_of_sum, typical_rate

amounts = st.floats(0, 1e6).map(lambda value: round(value, 2))
flows = st.builds(Flow, *[st.floats(0.01, 1e5)] * 4) | st.just(Flow(0, 0, 0, 0))


@given(st.lists(st.tuples(flows, flows), max_size=20), st.booleans())
def test_effects_always_add_up_to_the_change(pairs: list[tuple[Flow, Flow]], of_margin: bool) -> None:
    """Volume, mix, price, discount and cost leave no remainder, whatever was sold."""

    def worth(flow: Flow) -> float:
        return flow.revenue - (flow.cost if of_margin else 0.0)

    change = sum(worth(now) - worth(then) for now, then in pairs)
    assert sum(effects(pairs, of_margin=of_margin).values()) == pytest.approx(change, rel=1e-6, abs=1e-3)


@given(st.lists(st.tuples(amounts, amounts), max_size=30))
def test_contributions_of_a_sum_add_up(pairs: list[tuple[float, float]]) -> None:
    parts, _ = parts_of_sum([(str(n), *pair) for n, pair in enumerate(pairs)], overlapping=False)
    assert sum(part.contribution or 0.0 for part in parts) == pytest.approx(
        sum(now - then for now, then in pairs), abs=1e-3
    )


@given(st.lists(st.tuples(amounts, st.floats(1, 1e6), amounts, st.floats(1, 1e6)), min_size=1, max_size=20))
def test_contributions_of_a_ratio_add_up(quads: list[tuple[float, float, float, float]]) -> None:
    parts = parts_of_ratio([(str(n), *quad) for n, quad in enumerate(quads)], 1)
    now = sum(q[0] for q in quads) / sum(q[1] for q in quads)
    then = sum(q[2] for q in quads) / sum(q[3] for q in quads)
    assert sum(part.contribution or 0.0 for part in parts) == pytest.approx(now - then, rel=1e-6, abs=1e-6)


def test_one_collapse_doesnt_move_the_typical_rate() -> None:
    """It is a weighted median: nine members that fell by a tenth outweigh one that vanished."""
    assert typical_rate([(90, 100)] * 9 + [(0, 100)]) == pytest.approx(-0.1)
