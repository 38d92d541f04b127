"""How the analyst states what it found: a summary, findings as a list, and the evidence."""

from collections.abc import Sequence
from typing import Final

from askstream.agents.insights.offline.evidence import Evidence, to_markdown

TITLE: Final = "**Analysis**"


def say(summary: str, findings: Sequence[str], evidence: Sequence[Evidence] = ()) -> str:
    return "\n\n".join(part for part in (TITLE, summary, listed(findings), *map(to_markdown, evidence)) if part)


def listed(findings: Sequence[str]) -> str:
    return "\n".join(f"- {finding}" for finding in findings)


def parted(text: str) -> tuple[str, str]:
    """A statement as `say` writes it, without its title: the words, and the evidence after them."""
    words, mark, evidence = text.removeprefix(TITLE).partition("\n### ")
    return words.strip(), f"{mark}{evidence}".strip()
