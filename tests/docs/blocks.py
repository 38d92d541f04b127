"""The code blocks of a document, so that tests can run them."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Command:
    """`askstream serve` with its options, and the variables before it."""

    options: list[str]
    variables: dict[str, str]


def modules(document: Path) -> dict[str, str]:
    """Return the Python blocks, by the file that their first line names: `# name.py`."""
    blocks = [text for language, text in _BLOCK.findall(document.read_text()) if language == "python"]
    return {text.partition("\n")[0].removeprefix("# "): text for text in blocks}


def commands(document: Path) -> list[str]:
    """Return the lines of the shell blocks."""
    blocks = [text for language, text in _BLOCK.findall(document.read_text()) if language == "bash"]
    return [line for text in blocks for line in text.splitlines()]


def serving(document: Path, word: str) -> Command:
    """Return the document's only `askstream serve` with this word."""
    (line,) = [line for line in commands(document) if "askstream serve" in line and word in line]
    words = shlex.split(line)
    at = words.index("askstream")
    return Command(words[at + 2 :], dict(pair.split("=", 1) for pair in words[:at]))
