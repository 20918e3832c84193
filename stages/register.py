"""Stage ``register``: where each PET lies on its CT, and the body, with quality control."""

from __future__ import annotations

from pathlib import Path

import typer

from petct_uad.core.console import fail_cleanly, stage
from petct_uad.core.params.reading import ParamsFile
from petct_uad.core.provenance.record import Activity, write_lineage
from petct_uad.registration.params import RegisterParams
from petct_uad.registration.register import RegisterPaths, register_studies


def main() -> None:
    """Write data/interim/<dataset>/register, reports/registration and metrics/registration.json."""
    with fail_cleanly(), stage("register"):
        params = ParamsFile.read()
        register = params.section(RegisterParams, "register")
        interim = Path("data/interim") / params.dataset
        paths = RegisterPaths(
            ingest=interim / "ingest",
            register=interim / "register",
            pictures=Path("reports/registration"),
            metrics=Path("metrics/registration.json"),
        )
        derivations = register_studies(paths, register, params.workers)
        activity = Activity(
            stage="register",
            params={
                "dataset": params.dataset,
                "register": register.model_dump(mode="json"),
            },
            entry=Path("stages/register.py"),
            packages=("imagecodecs", "numpy", "pillow", "scipy", "SimpleITK"),
        )
        write_lineage(paths.register / "lineage", activity, derivations)


if __name__ == "__main__":
    typer.run(main)
