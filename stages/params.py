"""Stage ``params``: check params.yaml before anything runs, and publish its schema.

The first stages of data wait for ``data/params.checked``, which never changes, so that neither a
value nor a new key runs a stage that does not read it.
"""

from __future__ import annotations

from pathlib import Path

import typer

from petct_uad.core.console import fail_cleanly
from petct_uad.core.files import write_json, write_text
from petct_uad.schema import load_params, schema

SCHEMA = Path("data/params.schema.json")
CHECKED = Path("data/params.checked")


def main() -> None:
    """Refuse a wrong key or value within a second."""
    with fail_cleanly():
        load_params()
        write_json(SCHEMA, schema())
        write_text(CHECKED, "params.yaml fits its schema.\n")


if __name__ == "__main__":
    typer.run(main)
