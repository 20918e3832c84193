"""What git says of the repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

from petct_uad.core.errors import LineageError

NAME = "petct-uad"
DESCRIPTION = (
    "A data-versioned, leak-free benchmark of unsupervised anomaly detection on paired PET/CT"
)


def git(*words: str, folder: Path = Path()) -> str:
    """What a git command prints, run in ``folder``.

    Raises:
        LineageError: it failed; says git's reason.
    """
    try:
        done = subprocess.run(
            ["git", *words], cwd=folder, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise LineageError("git is not installed; install it to compare commits.") from error
    if done.returncode:
        raise LineageError(f"git {' '.join(words[:2])}: {done.stderr.strip() or 'failed'}.")
    return done.stdout


def try_git(*words: str, folder: Path = Path()) -> str | None:
    """The same, or None where there is no git or it fails."""
    try:
        return git(*words, folder=folder)
    except LineageError:
        return None
