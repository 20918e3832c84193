"""How far the lungs of a study reach, and with them its thorax."""

from __future__ import annotations

from dataclasses import dataclass

MARGIN_MM = 10.0  # kept beyond the lungs at either end: the recesses are thinner than a pixel


@dataclass(frozen=True)
class Lungs:
    """What the CT of one study shows; heights are z of slice centres (LPS, mm).

    Attributes:
        volume_ml: of the lungs without their airways; 0 where none are found.
        base_mm: the lowest slice with lung; absent where none are found.
        apex_mm: the highest one.
        at_low_end: does the lowest slice of the stack show lung, so that the base lies beyond it?
        at_high_end: likewise the highest.
    """

    volume_ml: float
    base_mm: float | None = None
    apex_mm: float | None = None
    at_low_end: bool = False
    at_high_end: bool = False

    @property
    def found(self) -> bool:
        """Are there any?"""
        return self.base_mm is not None

    def holds(self, z_mm: float) -> bool:
        """Does a slice at this height belong to the thorax, with the margin?"""
        if self.base_mm is None or self.apex_mm is None:
            return False
        return self.base_mm - MARGIN_MM <= z_mm <= self.apex_mm + MARGIN_MM
