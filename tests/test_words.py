"""Plain words: retired names don't come back, and sentences have a subject. CONTRIBUTING.md has the rules."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("server", "transports", "agents", "src", "web/static", "tests", "bench", "examples", "docs")
ENDINGS = (".py", ".md", ".js", ".html", ".css")
# The keyless analyst speaks of its own things; the vendored libraries of theirs.
LEFT_OUT = ("offline", "vendor", "__pycache__")

# Names that were replaced, because they were metaphors or had several meanings.
RETIRED_NAMES = r"""
Anatomy|Assembly|Audience|ClientLeft|Doorbell|Drive|EVENT_STREAM|GivenUp|Hearer|House|Lives|Outlet|PACE|Patience|Tally|
COURTESY\w*|binds|customs|desk|dismissed|drained_first|file_tasks|go_on|keep_going|keyed|ledger|outlet|stand_ins?|
step_back|take_in|take_inputs|take_up|tells_one_end|turnstile|unless_left
"""
# Words of a building, and turns of phrase that a reader has to guess at.
RETIRED_WORDS = r"""
anatomy|doorbells?|doors?|houses?|ledgers?|outlets?|roofs?|turnstiles?|there\ and\ then|worth\ its\ while|
in\ good\ order|whoever
"""
RETIRED = re.compile(rf"\b({RETIRED_NAMES})\b|\b(?i:{RETIRED_WORDS})\b".replace("\n", ""))
# "What has gathered" or "Who comes late" as a subject makes the reader look for the thing that is meant.
RELATIVE = re.compile(
    r"(?:^|[.:!?]\s+)((?:What|Who|Whom|Whose|Where|How|Why|Which)(?:ever)?|Those who|Of whom)\b(?![^.]*\?)"
)


def _files() -> Iterator[Path]:
    yield from sorted(path for path in ROOT.iterdir() if path.suffix in ENDINGS)
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in ENDINGS and not set(LEFT_OUT).intersection(path.parts) and path != Path(__file__):
                yield path


FILES = list(_files())
PYTHON = [path for path in FILES if path.suffix == ".py"]


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _docstrings(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def _comments(text: str) -> Iterator[str]:
    """Comments on lines that follow one another are one comment."""
    block, last = "", 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            if token.start[0] != last + 1:
                yield block
                block = ""
            block, last = f"{block} {token.string.lstrip('# ')}".strip(), token.start[0]
    yield block


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_no_retired_word(path: Path) -> None:
    """In names, sentences and texts."""
    found = [
        f"{number}: {line.strip()}"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if RETIRED.search(line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", PYTHON, ids=_name)
def test_each_sentence_begins_with_its_subject_or_verb(path: Path) -> None:
    """In docstrings and comments."""
    text = path.read_text()
    sentences = [" ".join(each.split()) for each in (*_docstrings(text), *_comments(text))]
    found = [each for each in sentences if RELATIVE.search(each)]
    assert not found, "\n".join(found)
