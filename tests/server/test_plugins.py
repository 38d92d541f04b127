"""A name in a setting is found in the project's folder, or refused with the reason."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from askstream.server import plugins


class Greets(Protocol):
    name: str

    def greet(self) -> str: ...


def package(folder: Path, says: str, *, init: bool = True) -> None:
    """Write a package `lodgers` whose module `sales` has the attribute `who`."""
    (folder / "lodgers").mkdir(parents=True)
    (folder / "lodgers" / "sales.py").write_text(f"who = {says!r}\nclass Deep:\n    inside = 'deep'\n")
    if init:
        (folder / "lodgers" / "__init__.py").touch()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, on no path yet, as when a console script starts. Behind it on the path: `installed`."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path] + [str(tmp_path / "installed")])
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] in ("lodgers", "broken")]:
        del sys.modules[name]


@pytest.mark.parametrize("init", [True, False])
def test_the_projects_own_package_goes_before_an_installed_one(here: Path, tmp_path: Path, init: bool) -> None:
    """Also without an `__init__.py`: Python by itself would prefer the installed one."""
    package(tmp_path / "installed", "a stranger's")
    package(here, "mine", init=init)
    assert plugins.load("lodgers.sales:who") == "mine"


def test_the_current_folder_goes_before_the_others_on_the_path(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if PYTHONPATH names it behind another."""
    package(tmp_path / "first", "another's")
    package(here, "mine")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "first"), str(here), *sys.path])
    assert plugins.load("lodgers.sales:who") == "mine"


def test_an_installed_module_is_found_too(here: Path, tmp_path: Path) -> None:
    """A folder of that name without the module hides nothing."""
    package(tmp_path / "installed", "installed")
    (here / "lodgers").mkdir()
    assert plugins.load("lodgers.sales:who") == "installed"
    assert plugins.load("lodgers.sales:Deep.inside") == "deep"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("lodgers.sales", "must read package.module:attribute"),
        ("lodgers.sales:", "must read package.module:attribute"),
        ("lodgers.none:who", "no module lodgers.none"),
        ("lodgers.sales:whom", "lodgers.sales has no whom"),
        ("lodgers.sales:Deep.who", "lodgers.sales has no Deep.who"),
        ("broken:who", "importing broken raised OSError: no disk"),
        (".:who", "importing . raised"),
    ],
)
def test_a_bad_name_is_refused_with_the_reason(here: Path, spec: str, words: str) -> None:
    """And with the names that there are."""
    package(here, "mine")
    (here / "broken.py").write_text("raise OSError('no disk')")
    with pytest.raises(ValueError, match=words):
        plugins.load(spec)
    with pytest.raises(ValueError, match=rf"of a guest, one of \['known'\] or package.*, got '{spec}': .*{words}"):
        plugins.named(spec, {"known": "lodgers.sales:who"}, "a guest")


def test_a_name_in_the_table_stands_for_its_row(here: Path) -> None:
    """Even if the current folder has a module of that name."""
    package(here, "mine")
    assert plugins.named("known", {"known": "lodgers.sales:who"}, "a guest") == "mine"
    assert plugins.named("lodgers.sales:who", {"known": "nothing:here"}, "a guest") == "mine"


def test_an_object_that_lacks_a_member_of_its_protocol_is_refused() -> None:
    """The refusal names all missing methods and attributes."""

    class Half:
        def greet(self) -> str:
            return "hello"

    with pytest.raises(ValueError, match=r"the protocol Greets of 'a\.b:c', got a Half, which has no name"):
        plugins.checked(Half(), Greets, "a.b:c")
    with pytest.raises(ValueError, match="got a int, which has no name, greet"):
        plugins.checked(5, Greets, "a.b:c")
    whole = Half()
    whole.name = "x"  # pyright: ignore[reportAttributeAccessIssue] - what it lacked
    assert plugins.checked(whole, Greets, "a.b:c") is whole
