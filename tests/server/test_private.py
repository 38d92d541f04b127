"""Files and folders for the server's own user."""

import logging
import stat
from pathlib import Path

import pytest

from askstream.server import private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("before", "after"), [(0o777, 0o600), (0o640, 0o600), (0o600, 0o600), (0o400, 0o400)])
def test_rights_are_taken_away_and_none_is_given(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, before: int, after: int
) -> None:
    """The log says so where something was changed."""
    file = tmp_path / "file"
    file.touch()
    file.chmod(before)
    private.close_to_others(file, private.FILE_MODE)
    assert mode(file) == after
    assert bool(caplog.records) == (before != after)


@pytest.mark.parametrize("kind", ["sticky", "current", "around", "home"])
def test_a_folder_that_others_use_keeps_its_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """A folder like /tmp, a home, or the project's: closing it would harm others. The log warns."""
    folder = tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    folder.chmod(0o1777 if kind == "sticky" else 0o755)
    if kind in ("current", "around"):
        monkeypatch.chdir(folder if kind == "current" else folder / "below")
    if kind == "home":
        monkeypatch.setenv("HOME", str(folder))
    before = mode(folder)
    with caplog.at_level(logging.WARNING):
        private.close_folder(folder)
    assert mode(folder) == before
    assert "isn't the server's alone" in caplog.text


def test_a_new_folder_is_private(tmp_path: Path) -> None:
    """Only the last one: those around it may be anybody's."""
    private.make_folder(tmp_path / "a" / "b")
    assert mode(tmp_path / "a" / "b") == 0o700
    private.make_folder(tmp_path / "a")
    assert mode(tmp_path / "a") != 0o700
