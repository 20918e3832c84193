"""Many tests at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values of one family, corrected so that any false positive at all is as rare as promised.

    Holm (1979), step down; holds however the tests depend on each other. statsmodels has it too,
    but loads for 1.5 s and collects garbage at each call.

    Returns:
        The corrected values, in the order given.
    """
    order = np.argsort(p_values, kind="stable")
    stepped = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return [float(p) for p in corrected]
