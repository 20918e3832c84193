"""What papers claim of the rows that were run, and what those rows say of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from petct_uad.comparison.paired import Pair, PairedAurocs
from petct_uad.comparison.tables import Difference
from petct_uad.core.claims import Claim
from petct_uad.scoring.tables import RowIdentity

SUPPORTED = "supported"
REFUTED = "not supported"
OPEN = "no significant difference"
UNTESTED = "not tested"


@dataclass(frozen=True)
class Comparison:
    """One run is better than another: its AUROC minus the other's, on the same slices."""

    better: str
    worse: str
    difference: Difference
    outcome: str  # supported, no significant difference, not supported


@dataclass(frozen=True)
class Hypothesis:
    """A claim and the comparisons whose runs are there."""

    claim: Claim
    comparisons: tuple[Comparison, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """Runs that were not compared."""
        there = {comparison.worse for comparison in self.comparisons}
        return tuple(run for run in self.claim.worse if run not in there)

    @property
    def outcome(self) -> str:
        """Supported if every comparison supports it; not tested while a run is missing."""
        outcomes = {comparison.outcome for comparison in self.comparisons}
        if REFUTED in outcomes:
            return REFUTED
        if self.missing:
            return UNTESTED
        return REFUTED if OPEN in outcomes else SUPPORTED


def judge_claims(paired: PairedAurocs, rows: Collection[RowIdentity]) -> tuple[Hypothesis, ...]:
    """Every claim that the rows carry; Holm's family is all comparisons that could be made.

    Args:
        paired: the runs.
        rows: what they are. A claim is about its model as the paper has it, so that none is made of
            a row that is not.
    """
    published = {row.run for row in rows if row.as_published}
    claims = dict.fromkeys(claim for row in rows for claim in row.claims)
    pairs = {claim: _pairs(claim, paired.values, published) for claim in claims}
    family = [pair for some in pairs.values() for pair in some]
    found = dict(zip(family, paired.family(family), strict=True))
    level = 1 - paired.confidence
    return tuple(
        Hypothesis(
            claim,
            tuple(
                Comparison(*pair, found[pair], judged(found[pair], level, SUPPORTED, OPEN, REFUTED))
                for pair in some
            ),
        )
        for claim, some in pairs.items()
    )


def by_paper(hypotheses: Iterable[Hypothesis]) -> dict[str, tuple[Hypothesis, ...]]:
    """The same, paper by paper."""
    found: dict[str, tuple[Hypothesis, ...]] = {}
    for hypothesis in hypotheses:
        paper = hypothesis.claim.paper
        found[paper] = (*found.get(paper, ()), hypothesis)
    return found


def judged(difference: Difference, level: float, above: str, between: str, below: str) -> str:
    """What a difference says: ``below`` if it is not positive, whatever its interval.

    The burden of proof is that of the run which is said to be better.
    """
    if difference.value <= 0:
        return below
    return above if difference.p_holm < level else between


def _pairs(claim: Claim, runs: Collection[str], published: Collection[str]) -> tuple[Pair, ...]:
    if claim.better not in published:
        return ()
    return tuple((claim.better, worse) for worse in claim.worse if worse in runs)
