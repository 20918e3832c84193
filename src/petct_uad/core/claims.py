"""What a paper claims of its model, as rows of the benchmark that can be set against each other."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper, as the row that it calls better than others."""

    text: str
    paper: str  # by the name of its model, as people write it
    source: str  # where the paper says so
    better: str
    worse: tuple[str, ...]
