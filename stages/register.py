"""register: where each PET lies on its CT, and the body, with quality control."""

from pathlib import Path

import typer

from petct_uad.core.provenance.stage import run_stage
from petct_uad.registration.params import RegisterParams
from petct_uad.registration.register import RegisterPaths, register_studies
from petct_uad.registration.tables import REGISTRATION_METRICS


def main() -> None:
    """Write data/interim/<dataset>/register, reports/registration and metrics/registration.json."""
    with run_stage("register", __file__) as run:
        interim = Path("data/interim") / run.params.dataset
        paths = RegisterPaths(
            ingest=interim / "ingest",
            register=interim / "register",
            pictures=Path("reports/registration"),
            metrics=REGISTRATION_METRICS,
        )
        params = run.params.section(RegisterParams, "register")
        found = register_studies(paths, params, run.params.workers, run.store())
        run.record(paths.register, found)


if __name__ == "__main__":
    typer.run(main)
