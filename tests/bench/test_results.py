"""Figures that are kept, and the page that they are put into."""

from pathlib import Path

import pytest

from bench import results
from bench.chart import Chart, Panel, Series
from bench.report import Row, Table
from bench.results import BEGIN, END, PAGE, Results, Section

CHART = Chart("growth", "Growth", "viewers", "ms", [Panel("SSE", [Series("askstream", [(10, 1.5), (100, 3)])])])
EMPTY = Chart("nothing", "Nothing", "viewers", "ms")


def page(folder: Path) -> Path:
    path = folder / "RESULTS.md"
    path.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    return path


def found() -> Results:
    table = Table("Cost", "Seconds", [Row("a", {"us": 2, "x": None}, 1, "rush 100", "SSE")], ["Noisy."])
    return Results("a machine", {"one": Section([table, CHART, EMPTY]), "two": Section(failure="no compiler")})


def test_writing_keeps_the_words_around_the_figures(tmp_path: Path) -> None:
    """Twice gives the same as once: only what stands between the marks is replaced."""
    path = page(tmp_path)
    for _ in range(2):
        results.write(found(), path, tmp_path / "figures")
    text = path.read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"{END}\nafter\n")
    assert text.count("### Cost") == 1
    assert "\nold\n" not in text
    assert "Measured on a machine." in text


def test_the_page_shows_goals_charts_and_what_failed(tmp_path: Path) -> None:
    """A chart without points is neither drawn nor shown; a section that is not complete says why."""
    results.write(found(), path := page(tmp_path), tmp_path / "figures")
    text = path.read_text()
    assert "SSE 2" in text
    assert "![Growth](figures/growth.svg)" in text
    assert "nothing" not in text
    assert "`two` is not complete: no compiler" in text
    assert {file.name for file in (tmp_path / "figures").iterdir()} == {"growth.svg", "figures.json"}


def test_what_is_kept_comes_back_as_it_was(tmp_path: Path) -> None:
    """So that one section can be measured anew beside the others, and charts drawn without measuring."""
    results.write(found(), page(tmp_path), tmp_path)
    assert results.load(tmp_path) == found()
    assert not results.load(tmp_path / "empty").sections


def test_a_chart_that_is_no_more_leaves_no_file(tmp_path: Path) -> None:
    """The folder holds what the page shows."""
    (tmp_path / "old.svg").touch()
    results.write(found(), page(tmp_path), tmp_path)
    assert not (tmp_path / "old.svg").exists()


def test_results_without_marks_are_left_alone(tmp_path: Path) -> None:
    """Rather an error than words overwritten."""
    path = tmp_path / "RESULTS.md"
    path.write_text("only words\n")
    with pytest.raises(ValueError, match="expected the lines"):
        results.write(found(), path, tmp_path / "figures")
    assert path.read_text() == "only words\n"
    assert not (tmp_path / "figures").exists()


def test_the_projects_own_page_has_the_marks_and_its_charts() -> None:
    """`dev.py bench --write` finds where to put the figures, and what the page shows is there."""
    text = PAGE.read_text()
    assert text.count(BEGIN) == text.count(END) == 1
    shown = {line.partition("](")[2].rstrip(")") for line in text.splitlines() if line.startswith("![")}
    assert all((PAGE.parent / name).is_file() for name in shown)
