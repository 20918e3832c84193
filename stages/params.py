"""Stage ``params``: check params.yaml before anything runs, and publish its schema.

The output is the schema alone, so changing a value runs this stage and nothing that does not read
that value.
"""

from __future__ import annotations

from pathlib import Path

import typer

from petct_uad.console import fail_cleanly
from petct_uad.files import write_json
from petct_uad.params import load_params, schema

SCHEMA = Path("data/params.schema.json")


def main() -> None:
    """Refuse a wrong key or value within a second."""
    with fail_cleanly():
        load_params()
        write_json(SCHEMA, schema())


if __name__ == "__main__":
    typer.run(main)
