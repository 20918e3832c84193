"""What this machine says of its store, by environment variables."""

from __future__ import annotations

import math
import os
from pathlib import Path

from petct_uad.core.errors import SettingError

SWITCH, BOUND = "PETCT_STORE", "PETCT_STORE_GIB"
GIB = 1 << 30

_STORE = Path(".cache/studies")
_ELSEWHERE = "petct-studies"  # below a folder that is named: what else lies there is never trimmed
_DEFAULT_GIB = 20.0


def is_on() -> bool:
    """Does this machine keep what it computes? Yes, unless ``PETCT_STORE`` is ``off``."""
    return _told() != "off"


def store_folder() -> Path:
    """Where this machine's store lies: in the workspace, or below the folder of ``PETCT_STORE``.

    Raises:
        SettingError: it is none of ``on``, ``off`` and an absolute path.
    """
    told = _told()
    if told in {"on", "off"}:
        return _STORE
    if not Path(told).is_absolute():
        raise SettingError(
            f"{SWITCH}={told!r} in the environment: expected on, off or a folder's absolute path."
        )
    return Path(told, _ELSEWHERE)


def bound_bytes() -> int:
    """What a store may take on this machine: ``PETCT_STORE_GIB``, by default 20 GiB.

    Raises:
        SettingError: it is no number, or negative.
    """
    told = os.environ.get(BOUND, "") or str(_DEFAULT_GIB)
    try:
        found = float(told)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise SettingError(f"{BOUND}={told!r} in the environment: expected GiB, 0 or more.")
    return int(found * GIB)


def _told() -> str:
    return os.environ.get(SWITCH, "") or "on"
