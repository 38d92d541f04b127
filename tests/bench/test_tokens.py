"""Pieces of a model's text, counted and timed at the other end."""

from hypothesis import given
from hypothesis import strategies as st

from bench import tokens
from bench.tokens import Load, Reader


@given(st.lists(st.integers(min_value=0, max_value=70)))
def test_a_piece_is_counted_once_however_the_text_is_cut(cuts: list[int]) -> None:
    """Long texts leave in portions that end anywhere."""
    text = b"".join(b"^%019d " % moment for moment in (1, 2, 3))
    places = sorted(min(cut, len(text)) for cut in cuts)
    took: list[float] = []
    reader = Reader(took)
    for start, end in zip([0, *places], [*places, len(text)], strict=True):
        reader.read(text[start:end])
    assert len(took) == 3


def test_every_piece_is_seen_on_both_ways() -> None:
    """Ours and AutoGen's are read to the end; a piece that did not come through would raise."""
    load = Load(runs=2, pieces=30, pause=0.001)
    for cost in (tokens.ours(load), tokens.autogen(load)):
        assert cost.run_ms > 0
        assert 0 < cost.p50 <= cost.p99
