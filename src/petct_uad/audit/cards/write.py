"""Cards as Markdown: of a data set after Gebru et al. 2021, of a model after Mitchell et al. 2019.

Datasheets for Datasets, doi:10.1145/3458723; Model Cards for Model Reporting,
doi:10.1145/3287560.3287596.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from petct_uad.audit.cards.facts import dataset_facts, evaluated_runs, model_facts
from petct_uad.core.errors import LineageError, did_you_mean
from petct_uad.core.files import write_text

DATASET = "dataset.md"


def write_cards(out: Path, dataset: str, runs: Sequence[str]) -> list[Path]:
    """The datasheet, and a card per row; files of these names are replaced.

    Args:
        out: a folder.
        dataset: its name.
        runs: rows of the benchmark; none: all that were evaluated.

    Raises:
        LineageError: a row, or what a card is made from, is not there.
    """
    known = evaluated_runs()
    for run in runs:
        if run not in known:
            raise LineageError(f"{run}: no row that was evaluated.{did_you_mean(run, known)}")
    texts = {DATASET: _text("dataset.md.j2", dataset_facts(dataset))}
    texts |= {f"{run}.md": _text("model.md.j2", model_facts(run)) for run in runs or known}
    for name, text in texts.items():
        write_text(out / name, text)
    return [out / name for name in texts]


def _text(template: str, facts: object) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown, from the pipeline's own tables
    )
    return environment.get_template(template).render(facts=facts)
