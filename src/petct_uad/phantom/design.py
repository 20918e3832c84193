"""The cohort's design: which patient has which scanner and lesions, balanced by construction.

Every choice follows a low-discrepancy sequence, so that any large part of the cohort is balanced
too; only the sequence's start depends on the seed.
"""

from __future__ import annotations

from typing import get_args

import numpy as np
import numpy.typing as npt

from petct_uad.phantom.lesions import LesionPlan
from petct_uad.phantom.params import PhantomParams
from petct_uad.phantom.patient import PatientPlan
from petct_uad.phantom.scanners import SCANNERS
from petct_uad.phantom.truth import LesionKind, Visibility

_GOLDEN = (5**0.5 - 1) / 2
_LESION_SHARE = 0.72  # of the patients
_MYOCARDIUM_SUV = (1.5, 12.0)


def plan_cohort(params: PhantomParams) -> list[PatientPlan]:
    """One plan per patient.

    Lesion kinds, scanners and visibilities form a Latin square. Heights: of two lesions, the second
    lies half a stack from the first, which makes a patient balanced in itself (a slice's distance
    from the middle says nothing about its label); single lesions lie about a quarter from an end.
    """
    rng = np.random.default_rng([params.seed, 0xC0])
    start = rng.random(3)
    affected = round(_LESION_SHARE * params.patients)
    order = rng.permutation(params.patients)
    plans: list[PatientPlan] = []
    lesions = 0
    for position in range(params.patients):
        planned = _lesions(position, lesions, start) if position < affected else ()
        lesions += len(planned)
        suv = _between(_MYOCARDIUM_SUV, _sequence(position, float(start[2])))
        scanner = SCANNERS[position % len(SCANNERS)]
        plans.append(PatientPlan(int(order[position]), scanner, suv, planned))
    return sorted(plans, key=lambda plan: plan.index)


def _lesions(position: int, already: int, start: npt.NDArray[np.float64]) -> tuple[LesionPlan, ...]:
    """The lesions of the affected patient at ``position`` of the design; all of one kind."""
    kinds, visibilities = get_args(LesionKind), get_args(Visibility)
    block, pair, scanner = position // 8, (position // 2) % 4, position % 2
    double = (block + 3 * pair + scanner) % 4 != 3
    base = _sequence(position, float(start[0]))
    if double:
        heights = [base, (base + 0.5) % 1.0]
    else:
        heights = [(0.25 if block % 2 else 0.75) + 0.3 * (base - 0.5)]
    first = block + pair + 2 * scanner
    return tuple(
        LesionPlan(kinds[pair], visibilities[(first + 2 * j) % 4], _inside(height), already + j)
        for j, height in enumerate(heights)
    )


def _sequence(index: int, start: float) -> float:
    """Kronecker sequence of the golden ratio: evenly spread in [0, 1) at every length."""
    return (start + index * _GOLDEN) % 1.0


def _between(limits: tuple[float, float], share: float) -> float:
    """Log-uniform."""
    low, high = np.log(limits)
    return float(np.exp(low + share * (high - low)))


def _inside(height: float) -> float:
    """Stretched so that end slices are as often hit as others, though no centre lies outside."""
    return float(np.clip(0.5 + 1.05 * (height - 0.5), 0.03, 0.97))
