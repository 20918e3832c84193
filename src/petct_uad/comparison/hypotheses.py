"""What the CMAD paper claims, and what the rows that were run say of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from petct_uad.comparison.paired import Pair, PairedAurocs
from petct_uad.evaluation.tables import Difference
from petct_uad.models.cmad.params import CmadParams

SUPPORTED = "supported"
REFUTED = "not supported"
OPEN = "not told apart"
UNTESTED = "not tested"
PROPOSED = "cmad-petct"
_PROPOSAL = {"cmh": True, "gfr": True, "cmpt": 8}  # the paper's own switches (Table 4, Fig. 6)


@dataclass(frozen=True)
class Statement:
    """A sentence of the paper, as the runs that it calls worse than the proposed one."""

    text: str
    source: str
    worse: tuple[str, ...]


STATEMENTS = (
    Statement("both modalities are better than one", "Table 2", ("cmad-pet", "cmad-ct")),
    Statement("the cross-modality hybrid module helps", "Table 4", ("cmad_no_cmh-petct",)),
    Statement("global fusion refinement helps", "Table 4", ("cmad_no_gfr-petct",)),
    Statement("8 tokens are best", "Fig. 6", ("cmad_4_tokens-petct", "cmad_16_tokens-petct")),
)


@dataclass(frozen=True)
class Claim:
    """One run is better than another: its AUROC minus the other's, on the same slices."""

    better: str
    worse: str
    difference: Difference
    outcome: str  # supported, not told apart, not supported


@dataclass(frozen=True)
class Hypothesis:
    """A statement and the comparisons whose runs are there."""

    statement: Statement
    claims: tuple[Claim, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """Runs that were not compared."""
        there = {claim.worse for claim in self.claims}
        return tuple(run for run in self.statement.worse if run not in there)

    @property
    def outcome(self) -> str:
        """Supported if every comparison supports it; not tested while a run is missing."""
        outcomes = {claim.outcome for claim in self.claims}
        if REFUTED in outcomes:
            return REFUTED
        if self.missing:
            return UNTESTED
        return REFUTED if OPEN in outcomes else SUPPORTED


def judge_statements(paired: PairedAurocs, proposed: CmadParams | None) -> tuple[Hypothesis, ...]:
    """Every statement against the runs that are there; Holm's family is all of these comparisons.

    Args:
        paired: the runs.
        proposed: the params of ``cmad-petct``; a statement about the paper's proposal needs its
            switches. None: they are the paper's.
    """
    pairs = {
        statement: _pairs(statement, paired.values, proposed is None or _is_proposal(proposed))
        for statement in STATEMENTS
    }
    family = [pair for some in pairs.values() for pair in some]
    found = dict(zip(family, paired.family(family), strict=True))
    level = 1 - paired.confidence
    return tuple(
        Hypothesis(
            statement,
            tuple(
                Claim(*pair, found[pair], judged(found[pair], level, SUPPORTED, OPEN, REFUTED))
                for pair in some
            ),
        )
        for statement, some in pairs.items()
    )


def judged(difference: Difference, level: float, above: str, between: str, below: str) -> str:
    """What a difference says: ``below`` if it is not positive, whatever its interval.

    The burden of proof is that of the run which is said to be better.
    """
    if difference.value <= 0:
        return below
    return above if difference.p_holm < level else between


def _pairs(statement: Statement, runs: Collection[str], proposal: bool) -> tuple[Pair, ...]:
    if PROPOSED not in runs or not proposal:
        return ()
    return tuple((PROPOSED, worse) for worse in statement.worse if worse in runs)


def _is_proposal(params: CmadParams) -> bool:
    return all(getattr(params, key) == value for key, value in _PROPOSAL.items())
