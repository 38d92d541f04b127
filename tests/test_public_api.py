"""`import askstream` offers the names that the documents name, typed, each imported when it is first used."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import askstream
from tools.environment import ROOT

PROGRAM = "import sys; before = set(sys.modules); import askstream; print(*sorted(set(sys.modules) - before))"
# `importlib`, which most interpreters have imported already.
LIGHT = 10


def documents() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_importing_it_imports_nothing_of_ours_and_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    new = done.stdout.split()
    assert [name for name in new if name.startswith("askstream")] == ["askstream"]
    assert len(new) < LIGHT


@pytest.mark.parametrize("name", askstream.__all__)
def test_each_name_is_there_and_comes_from_one_place(name: str) -> None:
    assert getattr(askstream, name) is getattr(askstream, name)
    assert name in dir(askstream)


def test_type_checkers_see_the_same_names() -> None:
    """They read the imports under TYPE_CHECKING; Python reads the table."""
    tree = ast.parse((ROOT / "src" / "askstream" / "__init__.py").read_text())
    typed = next(node for node in tree.body if isinstance(node, ast.If))
    named = [
        (alias.name, node.module) for node in typed.body if isinstance(node, ast.ImportFrom) for alias in node.names
    ]
    assert sorted(name for name, _ in named) == sorted(askstream.__all__)
    for name, module in named:
        assert getattr(sys.modules[module or ""], name) is getattr(askstream, name)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    assert not hasattr(askstream, "Journals")
    with pytest.raises(AttributeError, match="Journals"):
        importlib.import_module("askstream").__getattr__("Journals")


def test_the_documents_name_them_all() -> None:
    """A name that no document names is not public."""
    text = "\n".join(path.read_text() for path in documents())
    words = set(re.findall(r"\w+", text))
    assert not set(askstream.__all__) - words


def test_the_documents_import_nothing_private() -> None:
    """Only a journal or a transport needs more; extending.md lists that."""
    text = "\n".join(path.read_text() for path in documents() if path.name != "extending.md")
    assert not re.findall(r"^\s*(?:from|import) askstream\..*$", text, re.MULTILINE)
    for names in re.findall(r"from askstream import ([\w, ]+)", text):
        assert set(names.replace(" ", "").split(",")) <= set(askstream.__all__)
    assert set(re.findall(r"askstream\.([a-zA-Z_]+)\(", text)) <= set(askstream.__all__)
