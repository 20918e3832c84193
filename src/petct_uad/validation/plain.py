"""The rows of a table as a pandas frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import pandas as pd


def plain_frame(rows: Sequence[Any], row_type: type[Any]) -> pd.DataFrame:
    """A column for each field of ``row_type``.

    Given dataclasses, pandas would copy every value of each, which takes ten times as long.
    """
    names = [field.name for field in fields(row_type)]
    return pd.DataFrame([[getattr(row, name) for name in names] for row in rows], columns=names)
