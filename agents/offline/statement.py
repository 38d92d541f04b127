"""How the analyst states what it found: a summary, findings as a list, and the evidence."""

from collections.abc import Sequence
from typing import Final

from agents.offline.evidence import Evidence, to_markdown

TITLE: Final = "**Analysis**"


def say(summary: str, findings: Sequence[str], evidence: Sequence[Evidence] = ()) -> str:
    return "\n\n".join(part for part in (TITLE, summary, listed(findings), *map(to_markdown, evidence)) if part)


def listed(findings: Sequence[str]) -> str:
    return "\n".join(f"- {finding}" for finding in findings)
