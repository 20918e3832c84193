"""A stage as DVC runs it, without the seconds that a process of its own takes to load torch."""

from __future__ import annotations

import runpy
from pathlib import Path


def run_stage(name: str, *arguments: str) -> None:
    """``python stages/NAME.py ARGUMENTS`` in this process and working directory."""
    main = runpy.run_path(str(Path(f"stages/{name}.py").absolute()))["main"]
    main(*arguments)
