"""What maps show of lesions, lesion by lesion: FROC, volumes missed and falsely marked, Dice.

At a threshold, a map's *findings* are the connected parts of what exceeds it. A lesion is *found*
where the map exceeds the threshold in any of its voxels; a finding is *false* if it shares no voxel
with a lesion. So, at one threshold, does autoPET count volumes (Gatidis et al. 2024, "Results from
the autoPET challenge", Nature Machine Intelligence 6, 1396-1405): false positive volume is that of
the false findings, false negative volume that of the lesions which were not found.

Free-response ROC (Chakraborty 1989, Medical Physics 16(4), 561-568) is the sensitivity over all
lesions by the number of false findings per study, all studies counted, with a lesion or without.
The sweep goes down from above every value. As it falls further findings flow together and become
fewer again, which is no merit: so the number at a threshold is the largest of any higher one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from petct_uad.evaluation.metrics import Weights, in_chunks
from petct_uad.evaluation.stacks import NEIGHBOURS, Stack
from petct_uad.slices.store import ImageStack

# False findings per study of which the mean sensitivity is taken (LUNA16: Setio et al. 2017).
RATES = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)
CURVE_RATES: NDArray[np.float64] = np.geomspace(RATES[0], RATES[-1], 25)  # holds RATES
# The thresholds of the sweep are exceeded by these fractions of the pixels of all test slices: six
# to the decade. It ends early once no resample can be expected to have as few as RATES has.
_EXCEEDING = np.geomspace(1e-5, 1e-1, 25)
_ENOUGH_FALSE_PER_STUDY = 2 * RATES[-1]
_HALF = 16  # bits of a float32
Floats = NDArray[np.float64]


class Reading(NamedTuple):
    """What the map of one study shows at one threshold."""

    found: float  # lesions
    false: float  # findings
    false_ml: float
    missed_ml: float  # of lesions that are not found
    dice: float  # 0 without a lesion


@dataclass(frozen=True)
class Tally:
    """Readings at T thresholds, summed over the studies of each patient: all (T, P)."""

    found: Floats
    false: Floats
    false_ml: Floats
    missed_ml: Floats
    dice: Floats

    @classmethod
    def at(
        cls,
        stacks: Sequence[Stack],
        maps: ImageStack,
        thresholds: Sequence[float],
        n_patients: int,
    ) -> Self:
        """Count at each threshold, study by study.

        Args:
            stacks: of the test slices.
            maps: (n, S, S) of all of them.
            thresholds: falling; those after one that more than enough findings exceed are left out.
            n_patients: P.
        """
        owners = [stack.owner for stack in stacks]
        sums: list[Floats] = []
        for threshold in thresholds:
            readings = [_read(stack, maps, threshold) for stack in stacks]
            columns = zip(*readings, strict=True)  # in the order of the fields
            sums.append(np.array([_per_patient(owners, x, n_patients) for x in columns]))
            if np.mean([x.false for x in readings]) > _ENOUGH_FALSE_PER_STUDY:
                break
        return cls(*np.stack(sums, axis=1))


@dataclass(frozen=True)
class Findings:
    """One seed's maps against the lesions of the test split.

    Attributes:
        studies: (P,) of each patient.
        with_lesion: (P,) of each patient, studies with a lesion.
        lesions: (P,) of each patient.
        called: at the threshold from validation normals: T is 1.
        sweep: at falling thresholds.
    """

    studies: Floats
    with_lesion: Floats
    lesions: Floats
    called: Tally
    sweep: Tally

    @classmethod
    def of(
        cls,
        stacks: Sequence[Stack],
        maps: ImageStack,
        threshold: float,
        n_patients: int,
    ) -> Self:
        """Count what the maps (n, S, S) of the test slices show.

        Args:
            stacks: at least one of them has a lesion.
            maps: higher is more abnormal.
            threshold: of the map, from validation normals.
            n_patients: P.
        """
        owners, counts = [x.owner for x in stacks], np.array([x.count for x in stacks])
        return cls(
            studies=_per_patient(owners, np.ones_like(counts), n_patients),
            with_lesion=_per_patient(owners, counts > 0, n_patients),
            lesions=_per_patient(owners, counts, n_patients),
            called=Tally.at(stacks, maps, [threshold], n_patients),
            sweep=Tally.at(stacks, maps, falling_thresholds(maps), n_patients),
        )

    def sensitivity(self, weights: Weights, rates: Sequence[float] | Floats) -> Floats:
        """Of each resample, at these false findings per study: (resamples, rates).

        Between two thresholds it is interpolated; beyond the end of the sweep it stays. NaN where a
        resample has no lesion.
        """
        found = _ratio(weights @ self.sweep.found.T, weights @ self.lesions)
        false = _ratio(weights @ self.sweep.false.T, weights @ self.studies)
        return _at_rates(np.maximum.accumulate(false, axis=1), found, np.asarray(rates))

    def found(self, weights: Weights) -> Floats:
        """Fraction of lesions found at the threshold from validation normals: (resamples,)."""
        return _ratio(weights @ self.called.found.T, weights @ self.lesions)[:, 0]

    def false_per_study(self, weights: Weights) -> Floats:
        """False findings per study at that threshold: (resamples,)."""
        return _ratio(weights @ self.called.false.T, weights @ self.studies)[:, 0]

    def false_ml(self, weights: Weights) -> Floats:
        """False positive volume per study at that threshold: (resamples,), NaN for pictures."""
        return _ratio(weights @ self.called.false_ml.T, weights @ self.studies)[:, 0]

    def missed_ml(self, weights: Weights) -> Floats:
        """False negative volume per study with a lesion, likewise."""
        return _ratio(weights @ self.called.missed_ml.T, weights @ self.with_lesion)[:, 0]

    def dice(self, weights: Weights) -> Floats:
        """Mean Dice of the studies with a lesion at that threshold: (resamples,)."""
        return _ratio(weights @ self.called.dice.T, weights @ self.with_lesion)[:, 0]

    @property
    def oracle_dice(self) -> float:
        """The same at the threshold that suits the test slices best, of the sweep and that one."""
        best = max(float(tally.dice.sum(axis=1).max()) for tally in (self.called, self.sweep))
        return best / float(self.with_lesion.sum())


def _per_patient(owners: Sequence[int], of_studies: ArrayLike, n_patients: int) -> Floats:
    return np.bincount(owners, of_studies, n_patients).astype(np.float64)


def _read(stack: Stack, maps: ImageStack, threshold: float) -> Reading:
    labelled, count = labelled_findings(stack.above(maps, threshold))
    sizes = np.bincount(labelled[labelled > 0], minlength=count + 1)
    hit = labelled.ravel()[stack.inside]
    false = np.ones(count + 1, dtype=np.bool_)
    false[hit] = False
    false[0] = False
    volumes = np.bincount(stack.lesion_of, minlength=stack.count)
    found = np.bincount(stack.lesion_of, hit > 0, minlength=stack.count) > 0
    overlap, marked = np.count_nonzero(hit), sizes.sum() + len(hit)
    return Reading(
        found=float(found.sum()),
        false=float(false.sum()),
        false_ml=float(sizes[false].sum()) * stack.voxel_ml,
        missed_ml=float(volumes[~found].sum()) * stack.voxel_ml,
        dice=2.0 * overlap / marked if len(hit) else 0.0,
    )


def labelled_findings(above: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Findings by number, (D, S, S), and how many; only the box around them is searched."""
    others = ((1, 2), (0, 2), (0, 1))
    spans = [np.flatnonzero(above.any(axis=axes)) for axes in others]
    labelled = np.zeros(above.shape, dtype=np.int32)
    if not spans[0].size:
        return labelled, 0
    box = tuple(slice(span[0], span[-1] + 1) for span in spans)
    return labelled, ndimage.label(above[box], NEIGHBOURS, output=labelled[box])


def falling_thresholds(maps: ImageStack) -> list[float]:
    """What each fraction of the sweep of all pixels exceeds, at most; each value once."""
    size = math.prod(maps.shape)
    exceeding = np.floor(size * _EXCEEDING).astype(np.int64)
    return list(dict.fromkeys(_at_ranks(maps, size - 1 - exceeding).tolist()))


def _at_ranks(maps: ImageStack, ranks: NDArray[np.int64]) -> NDArray[np.float32]:
    """The pixels of these ranks among all, from 0 for the smallest, exactly: (r,).

    Pixels are not sorted but counted: by the higher half of the bits that order them, and then, of
    the few halves in which a rank lies, by the lower half.
    """
    high = sum(np.bincount(x >> _HALF, minlength=1 << _HALF) for x in _rising(maps))
    up_to = np.cumsum(high)
    bins, which = np.unique(np.searchsorted(up_to, ranks, "right"), return_inverse=True)
    low = sum(_lower_halves(x, bins) for x in _rising(maps))
    within = ranks - (up_to - high)[bins[which]]
    reached = (np.cumsum(low, axis=1)[which] <= within[:, None]).sum(axis=1)
    rising = (bins[which] << _HALF | reached).astype(np.uint32)
    bits = np.where(rising >> 31, rising ^ np.uint32(1 << 31), ~rising)
    return np.asarray(bits.astype(np.uint32).view(np.float32))


def _rising(maps: ImageStack) -> Iterator[NDArray[np.int64]]:
    """An integer per pixel that rises with it, some slices at a time: the 32 bits that IEEE 754
    gives it, those of negative values turned."""
    for chunk in in_chunks(maps.shape[0]):
        bits = maps[chunk].astype(np.float32).ravel().view(np.uint32)
        yield np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)).astype(np.int64)


def _lower_halves(pixels: NDArray[np.int64], bins: NDArray[np.intp]) -> NDArray[np.int64]:
    """(b, 2^16) how often each lower half occurs below each of these higher halves."""
    high = pixels >> _HALF
    which = np.searchsorted(bins, high).clip(max=len(bins) - 1)
    among = bins[which] == high
    lower = which[among] << _HALF | pixels[among] & ((1 << _HALF) - 1)
    return np.bincount(lower, minlength=len(bins) << _HALF).reshape(len(bins), -1)


def _at_rates(false: Floats, found: Floats, rates: Floats) -> Floats:
    """Curves (resamples, T), of which ``false`` never falls, at ``rates``; from the origin on."""
    origin = np.zeros((len(false), 1))
    x, y = np.hstack([origin, false]), np.hstack([origin, found])
    last = (x[:, None, :] <= rates[:, None]).sum(axis=2) - 1  # (resamples, rates)
    after = np.minimum(last + 1, x.shape[1] - 1)
    x0, x1, y0, y1 = (np.take_along_axis(z, i, 1) for z in (x, y) for i in (last, after))
    part = np.divide(rates - x0, x1 - x0, out=np.zeros_like(x0), where=x1 > x0)
    return np.asarray(y0 + part * (y1 - y0))


def _ratio(part: Floats, whole: Floats) -> Floats:
    """(resamples, T) over (resamples,); NaN where there is nothing to count."""
    undefined = np.full(part.shape, np.nan)
    divisor = np.broadcast_to(whole[:, None], part.shape)
    return np.asarray(np.divide(part, divisor, out=undefined, where=divisor > 0))
