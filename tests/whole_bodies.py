"""Digital whole bodies as DICOM, made once for all tests that read them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock

from petct_uad.phantom.cohort import make_cohort
from petct_uad.phantom.params import PhantomParams

# The shortest stack that holds both ends of all lungs.
PARAMS = PhantomParams(
    patients=4, seed=3, extent_mm=420.0, ct_matrix=64, max_shift_mm=5.0, max_rotation_deg=1.0
)


def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``raw`` and ``truth``, to read and never to change.

    All processes of pytest-xdist share it.
    """
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "whole-bodies"
    with FileLock(f"{shared}.lock"):
        if not shared.exists():
            making = tmp_path_factory.mktemp("bodies") / "making"
            make_cohort(PARAMS, making / "raw", making / "truth", workers=0)
            making.rename(shared)
    return shared
