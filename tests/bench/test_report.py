"""Tables that say how ours stands to each peer."""

import pytest

from bench.report import Row, Table, markdown, ratio


@pytest.mark.parametrize(
    ("ours", "theirs", "told"), [(1.0, 4.0, "×0.25"), (3.0, 2.0, "×1.5"), (46.0, 2.0, "×23"), (0.1, 30.0, "×0.0033")]
)
def test_a_ratio_is_ours_divided_by_theirs(ours: float, theirs: float, told: str) -> None:
    """Below 1 means that ours takes less."""
    assert ratio(ours, theirs) == told


def test_a_table_gives_figures_and_ratios_and_leaves_out_what_was_not_measured() -> None:
    """The first column is ours; a peer of another row stays blank."""
    table = Table("Cost", "Seconds", [Row("a", {"us": 2, "x": 4}), Row("b", {"us": 1, "y": 0.5})], ["Noisy.", "Noisy."])
    text = markdown(table)
    assert "| | us | x | y |" in text
    assert "| a | 2.00 | 4.00 (×0.50) |  |" in text
    assert "| b | 1.00 |  | 0.50 (×2.0) |" in text
    assert text.count("- Noisy.") == 1
    assert "less is better" in text


def test_a_table_of_shares_has_neither_ratios_nor_a_better_side() -> None:
    """Where the time goes is no contest."""
    text = markdown(Table("Shares", "Percent", [Row("a", {"us": 20, "x": 40}, 0)], better=""))
    assert "| a | 20 | 40 |" in text
    assert "better" not in text
