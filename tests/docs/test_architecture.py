"""docs/architecture.md lists every module once, and names no path, no name and no layer that isn't there."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PROSE = re.sub(r"^```.*?^```$", "", PAGE, flags=re.MULTILINE | re.DOTALL)
# A paragraph, a row of a table, or an item of a list.
BLOCKS = [block for block in re.split(r"\n\n|\n(?=\||- |\d+\. )", PROSE) if "`" in block]
SPANS = re.compile(r"`([^`]+)`")
PATHS = sorted({span for span in SPANS.findall(PROSE) if re.fullmatch(r"[\w.-]+/[\w./-]*|[\w.]+\.(py|md)", span)})
NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)*")
# The first column of the tables of modules. A folder stands for all that is in it.
LISTED = re.findall(r"^\| `([\w./-]+)` \|", PAGE, re.MULTILINE)
FOLDERS = {"server": "*.py", "transports": "*.py", "agents": "*.py", "src/askstream": "*.py", "web/static": "*.js"}


def _modules() -> Iterator[str]:
    for folder, pattern in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob(pattern)):
            is_package = path.name == "__init__.py" and folder != "src/askstream"
            if not is_package and "vendor" not in path.parts:
                yield path.relative_to(ROOT).as_posix()


MODULES = list(_modules())
EVERYTHING = "\n".join((ROOT / module).read_text(encoding="utf-8") for module in MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_each_module_is_listed_once(module: str) -> None:
    """By itself, or by its folder."""
    assert [
        listed for listed in LISTED if module == listed or (listed.endswith("/") and module.startswith(listed))
    ] in (
        [module],
        ["agents/insights/offline/"],
    )


@pytest.mark.parametrize("path", PATHS)
def test_each_path_is_there(path: str) -> None:
    """Files and folders, from the root of the repository."""
    assert (ROOT / path).exists()


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_each_name_is_where_the_page_says(block: str) -> None:
    """In one of the files that its paragraph names; anywhere if the paragraph names none."""
    spans = SPANS.findall(block)
    files = [ROOT / span for span in spans if "/" in span and (ROOT / span).is_file()]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files) if files else EVERYTHING
    for name in filter(NAME.fullmatch, set(spans).difference(PATHS)):
        for word in name.split("."):
            assert re.search(rf"\b{word}\b", text), f"{name} is in none of {files}"


def test_the_layers_are_those_that_are_checked() -> None:
    """The drawing has a line for each layer of the import contract, in its order."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    drawing = PAGE.partition("## Layers")[2].split("```")[1].strip()
    drawn = [
        re.findall(r"(?:server|transports|agents|web)[\w.]*", line.partition("#")[0]) for line in drawing.splitlines()
    ]
    assert drawn == [re.findall(r"askstream\.([\w.]+)", layer) for layer in layers]
