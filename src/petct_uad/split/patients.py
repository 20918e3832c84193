"""Who trains, who chooses thresholds and who is tested."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from petct_uad.core.errors import SplitError
from petct_uad.core.patient_split import Part, share_of
from petct_uad.ingest.tables import StudyRow
from petct_uad.split.params import SplitParams

LEAST_PATIENTS = 3  # one for each of train, val and test


def assign_patients(studies: Sequence[StudyRow], params: SplitParams) -> dict[str, Part]:
    """Divide patients, seeded.

    ``shuffle``: stratified by scanner and lesion kind. Patients are shuffled, then assigned
    stratum by stratum, each to the split furthest below its share, so every stratum is spread over
    the splits as evenly as its size allows. With ``folds`` they first go to the folds in turn, one
    of which is the test split; the others are divided between train and val.

    ``hash``: each by a hash of its own name, so that a patient stays where it is whoever else
    comes or goes; shares and strata are even only on average.

    Raises:
        SplitError: there are fewer than three patients, or fewer than folds.
    """
    if params.assign == "hash":
        return {x: _by_hash(x, params) for x in sorted({study.patient for study in studies})}
    ordered = _in_order(studies, params)
    if params.folds < 2:
        return dict(zip(ordered, apportion(len(ordered), params), strict=True))
    if len(ordered) < params.folds:
        raise SplitError(
            f"{len(ordered)} patients cannot be assigned to split.folds = {params.folds}; "
            "add patients, or lower split.folds"
        )
    parts: dict[str, Part] = dict.fromkeys(ordered[params.fold :: params.folds], "test")
    rest = [patient for patient in ordered if patient not in parts]
    return parts | dict(zip(rest, apportion(len(rest), params, test=False), strict=True))


def _by_hash(patient: str, params: SplitParams) -> Part:
    """The fold is drawn first and apart, so that it says nothing of train and val."""
    if params.folds > 1 and int(params.folds * _drawn(patient, "fold", params)) == params.fold:
        return "test"
    drawn = _drawn(patient, "part", params)
    if params.folds > 1:
        drawn *= params.train_fraction + params.val_fraction
    if drawn < params.train_fraction:
        return "train"
    return "val" if drawn < params.train_fraction + params.val_fraction else "test"


def _drawn(patient: str, what: str, params: SplitParams) -> float:
    """Even from 0 to below 1, from nothing but the patient's name, the seed and what it is for."""
    return share_of(f"{what}\0{params.seed}\0{patient}")


def _in_order(studies: Sequence[StudyRow], params: SplitParams) -> list[str]:
    """Patients in a seeded order, stratum by stratum."""
    strata = {study.patient: (study.scanner, study.lesion_kind) for study in reversed(studies)}
    patients = sorted(strata)
    if len(patients) < LEAST_PATIENTS:
        raise SplitError(
            f"found {len(patients)} of at least {LEAST_PATIENTS} patients to divide into train, "
            "val and test. Add patients, or use split.protocol: cmad knowing that it leaks."
        )
    shuffled = np.random.default_rng(params.seed).permutation(len(patients))
    return sorted((patients[i] for i in shuffled), key=lambda patient: strata[patient])


def apportion(count: int, params: SplitParams, *, test: bool = True) -> list[Part]:
    """A sequence of splits whose every prefix is as close to the fractions as integers allow."""
    parts: tuple[Part, Part, Part] = ("train", "test", "val")
    test_fraction = 1 - params.train_fraction - params.val_fraction if test else 0.0
    shares = np.array([params.train_fraction, test_fraction, params.val_fraction])
    if not test:
        shares /= shares.sum()
    given = np.zeros(3)
    sequence: list[Part] = []
    for assigned in range(1, count + 1):
        most_owed = int(np.argmax(shares * assigned - given))
        given[most_owed] += 1
        sequence.append(parts[most_owed])
    return sequence
