"""Which of several stacks is the better CT or PET of a study: criteria, and how they are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from petct_uad.ingest.dicom.geometry import Stack

EQUAL = "equal to the chosen one in every rule; the first UID is taken"
_AS_LONG = 0.95  # of the longest: thin and thick stacks of one body end a little apart


@dataclass(frozen=True)
class Merit:
    """One criterion of a choice; more is better."""

    name: str
    value: int  # a bool where it is one or the other
    told: int | None = None  # what is said of it, where it is not the value

    @property
    def shown(self) -> int:
        """What a person reads."""
        return self.value if self.told is None else self.told


@dataclass(frozen=True)
class Drawn:
    """What the label objects of a study say they were drawn on."""

    series: frozenset[str]  # SeriesInstanceUIDs
    frames: frozenset[str]  # of reference, of those series


def pet_merits(stack: Stack, drawn: Drawn, longest_mm: float) -> tuple[Merit, ...]:
    """What can be an SUV, what the label was drawn on, then what covers more."""
    first = stack.headers[0]
    corrected = first.corrected_image
    return (
        Merit("attenuation correction (0028,0051)", not corrected or "ATTN" in corrected),
        Merit("the label's reference to it", first.series_instance_uid in drawn.series),
        Merit("the label's frame of reference", first.frame_of_reference_uid in drawn.frames),
        Merit("a statement of attenuation correction (0028,0051)", "ATTN" in corrected),
        _coverage("mm", extent_mm(stack), longest_mm),
        Merit("slices", len(stack.headers)),
    )


def ct_merits(stack: Stack, pet: Stack, drawn: Drawn, longest_mm: float) -> tuple[Merit, ...]:
    """What the label was drawn on, the PET's frame of reference, then what covers more of it."""
    first = stack.headers[0]
    return (
        Merit("the label's reference to it", first.series_instance_uid in drawn.series),
        Merit("the PET's Frame of Reference UID (0020,0052)", same_frame(stack, pet)),
        _coverage("mm over the PET", covered_mm(stack, pet), longest_mm),
        Merit("slices over the PET", slices_within(stack, pet)),
        Merit("ORIGINAL in ImageType (0008,0008)", "ORIGINAL" in first.image_type),
    )


def _coverage(name: str, mm: float, longest_mm: float) -> Merit:
    """Equal to the best where no more is missing than a thick slice or two."""
    return Merit(name, min(round(mm), round(longest_mm * _AS_LONG)), told=round(mm))


def extent_mm(stack: Stack) -> float:
    """How long a stack is, from the centre of its first slice to that of its last."""
    return (len(stack.headers) - 1) * stack.grid.spacing_mm[2]


def covered_mm(ct: Stack, pet: Stack) -> float:
    """How much of the PET's length has CT slices, from centre to centre."""
    return (slices_within(ct, pet) - 1) * ct.grid.spacing_mm[2]


def decisive(winner: Sequence[Merit], second: Sequence[Merit]) -> str:
    """The first criterion by which the best goes before the next."""
    differ = (
        best.name for best, own in zip(winner, second, strict=True) if best.value != own.value
    )
    return next(differ, "equal in every rule, the first UID")


def why_lost(winner: Sequence[Merit], loser: Sequence[Merit]) -> str:
    """The first criterion in which a stack is worse than the one that was taken."""
    for best, own in zip(winner, loser, strict=True):
        if best.value != own.value:
            if isinstance(best.value, bool):
                return f"lacks {best.name}, which the chosen one has"
            return f"fewer {best.name}: {own.shown} against {best.shown}"
    return EQUAL


def same_frame(one: Stack, other: Stack) -> bool:
    """Do two series share a Frame of Reference UID (0020,0052)?"""
    uid = one.headers[0].frame_of_reference_uid
    return bool(uid) and uid == other.headers[0].frame_of_reference_uid


def slices_within(ct: Stack, pet: Stack) -> int:
    """How many CT slices lie within the PET's extent along the PET's normal."""
    index = pet.grid.indices(ct.grid.slice_centres())[:, 2]
    return int(((index > -0.5) & (index < len(pet.headers) - 0.5)).sum())
