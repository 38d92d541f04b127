"""Tables that say how ours stands to each peer."""

from pathlib import Path

import pytest

from bench.report import BEGIN, END, RESULTS, Row, Table, markdown, ratio, write


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


def test_writing_keeps_the_words_around_the_figures(tmp_path: Path) -> None:
    """Twice gives the same as once: only what stands between the marks is replaced."""
    results = tmp_path / "RESULTS.md"
    results.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for _ in range(2):
        write([Table("Cost", "Seconds", [Row("a", {"us": 2})])], "a machine", results)
    text = results.read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"{END}\nafter\n")
    assert text.count("### Cost") == 1
    assert "old" not in text
    assert "Measured on a machine." in text


def test_results_without_marks_are_left_alone(tmp_path: Path) -> None:
    """Rather an error than words overwritten."""
    results = tmp_path / "RESULTS.md"
    results.write_text("only words\n")
    with pytest.raises(ValueError, match="expected the lines"):
        write([], "a machine", results)
    assert results.read_text() == "only words\n"


def test_the_projects_own_results_have_the_marks() -> None:
    """`dev.py bench --write` finds where to put the figures."""
    text = RESULTS.read_text()
    assert text.count(BEGIN) == text.count(END) == 1
