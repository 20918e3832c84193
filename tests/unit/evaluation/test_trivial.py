from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import pytest

from petct_uad.core.errors import DatasetError
from petct_uad.core.files import write_table
from petct_uad.core.params.base import Protocol
from petct_uad.core.provenance.record import Derivation
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.evaluation.results import ResultPaths, RunResults, read_results
from petct_uad.evaluation.run import evaluate_trivial
from petct_uad.evaluation.tables import MeasuredOn
from petct_uad.evaluation.trivial import (
    SUVMAX,
    TRIVIAL_BASELINES,
    Readings,
    TrivialBaseline,
    baselines_of,
    closeness_to_middle,
)
from petct_uad.ingest.tables import StudyRow
from petct_uad.slices.tables import PETCT, PICTURE, ImageRow, ReadingRow
from tests.samples import PETCT_BASELINES, image_row, picture_reading, reading_row, study_row

STUDIES = Path("ingest/studies.csv")
PARAMS = EvaluateParams(false_positive_rate=0.25, bootstrap_samples=20, confidence=0.95, seed=0)


def row(
    patient: str,
    split: str,
    label: int,
    suv_max: float,
    *,
    position: float = 0.5,
    area: float = 1.0,
) -> ImageRow:
    return image_row(
        slice_id=f"{patient}_s_{int(100 * suv_max):04d}",
        study_id=f"{patient}_s",
        patient=patient,
        split=split,
        label=label,
        position=position,
        lesion_area_mm2=50.0 * label,
        suv_max=suv_max,
        suv_mean=1.0,
        body_area_mm2=area,
    )


ROWS = [
    row("V", "train", 0, 99.0),
    *(row("V", "val", 0, suv_max) for suv_max in (1.0, 2.0, 3.0, 4.0)),
    row("V", "val", 1, 50.0),
    row("A", "test", 0, 1.5, position=0.0, area=3.0),
    row("A", "test", 1, 5.0, position=0.4, area=2.0),
    row("B", "test", 0, 3.5, position=1.0, area=4.0),
    row("B", "test", 1, 2.5, position=0.6, area=1.0),
]
# The larger a slice's SUVmax, the larger one area and the smaller another.
UPTAKE = [
    reading_row(slice_id=x.slice_id, suv_above_2_5_mm2=x.suv_max, suv_above_4_mm2=100.0 - x.suv_max)
    for x in ROWS
]
PICTURES = [
    picture_reading(slice_id=x.slice_id, grey_gradient=x.suv_max, grey_laplacian=100.0 - x.suv_max)
    for x in ROWS
]


def written(folder: Path, readings: list[ReadingRow]) -> Path:
    """A folder of processed data with both tables."""
    write_table(folder / "processed/index.csv", ImageRow, ROWS)
    write_table(folder / "processed/readings.csv", ReadingRow, readings)
    studies = sorted({row.study_id for row in ROWS})
    write_table(folder / STUDIES, StudyRow, [study_row(study_id=x) for x in studies])
    return Path("processed")


def evaluate(processed: Path, protocol: Protocol) -> dict[str, tuple[Derivation, ...]]:
    return evaluate_trivial(
        processed,
        STUDIES,
        on=MeasuredOn("tiny", protocol),
        params=PARAMS,
        metrics=Path("metrics"),
    )


def measured(folder: Path, readings: list[ReadingRow] = UPTAKE) -> dict[str, RunResults]:
    """The results of every baseline on ``ROWS``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        processed = written(folder, readings)
        names = evaluate(processed, "patient")
        return {x: read_results(ResultPaths.of(Path("metrics"), "trivial", x)) for x in names}


def test_suvmax_takes_its_threshold_from_validation_normals_only(tmp_path: Path) -> None:
    # One of four normals may lie above, so the threshold is the third: 3.0, and not 4.0 or 50.0.
    results = measured(tmp_path)[SUVMAX.name]
    assert results.metrics.thresholds == (3.0,)
    assert (results.metrics.seeds, {row.seed for row in results.scores}) == (1, {0})
    assert results.metrics.n_val_normal == 4
    predicted = {score.score: score.predicted for score in results.scores}
    assert predicted == {1.5: 0, 5.0: 1, 3.5: 1, 2.5: 0}
    assert results.metrics.auroc.value == pytest.approx(3 / 4)
    figures = results.metrics.figures
    assert figures["sensitivity"].value == figures["specificity"].value == 0.5
    assert {"pixel_auroc", "aupro"}.isdisjoint(figures)


def test_each_baseline_of_petct_reads_its_own_number(tmp_path: Path) -> None:
    aurocs = {name: found.metrics.auroc.value for name, found in measured(tmp_path).items()}
    assert aurocs == pytest.approx({
        "suvmax": 0.75,
        "suv_mean": 0.5,
        "suv_above_2_5": 0.75,
        "suv_above_4": 0.25,
        "suv_above_41_percent": 0.5,
        "suv_above_liver": 0.5,
        "body_area": 0.0,
        "position": 1.0,
    })  # fmt: skip


def test_pictures_have_sharpness_and_brightness_in_both_directions(tmp_path: Path) -> None:
    aurocs = {x: found.metrics.auroc.value for x, found in measured(tmp_path, PICTURES).items()}
    assert aurocs == pytest.approx({
        "suvmax": 0.75,
        "brightest_reversed": 0.5,
        "brightness": 0.5,
        "brightness_reversed": 0.5,
        "sharpness": 0.75,
        "sharpness_reversed": 0.25,
        "laplacian": 0.25,
        "laplacian_reversed": 0.75,
        "body_area": 0.0,
        "position": 1.0,
    })  # fmt: skip


def test_no_kind_of_slice_has_a_baseline_whose_number_it_lacks() -> None:
    samples = {PETCT: reading_row(), PICTURE: picture_reading()}
    for kind, reading in samples.items():
        readings = Readings({reading.slice_id: reading})
        values = [readings.value(x, image_row()) for x in baselines_of({kind})]
        assert len(values) >= 8
        assert all(isinstance(value, float) for value in values)


def test_every_baseline_says_in_words_what_it_is_and_has_a_name_of_its_own() -> None:
    names = [baseline.name for baseline in TRIVIAL_BASELINES]
    assert len(set(names)) == len(names)
    assert not [name for name in names if "-" in name]  # a hyphen parts a model from its modality
    assert all(len(baseline.how) > 10 for baseline in TRIVIAL_BASELINES)


def test_a_reversed_baseline_is_the_same_number_with_the_other_sign() -> None:
    up = TrivialBaseline("up", "pet", "suv_mean", "")
    down = dataclasses.replace(up, name="down", direction=-1)
    readings = Readings({})
    assert readings.value(up, ROWS[0]) == -readings.value(down, ROWS[0]) == 1.0


@pytest.mark.parametrize(("position", "score"), [(0, 0), (0.25, 0.5), (0.5, 1), (1, 0)])
def test_position_scores_closeness_to_the_middle_of_the_stack(
    position: float, score: float
) -> None:
    assert closeness_to_middle(position) == score


def test_every_baseline_gets_the_files_of_a_run_and_derives_from_the_tables_that_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    processed = written(tmp_path, UPTAKE)
    derived = evaluate(processed, "cmad")
    assert set(derived) == PETCT_BASELINES
    shown = json.loads(Path("metrics/auroc/trivial.json").read_text())
    assert shown == {"suvmax": 0.75, "leaking": True}
    for baseline, derivations in derived.items():
        paths = ResultPaths.of(Path("metrics"), "trivial", baseline)
        written_files = {*paths.folder.iterdir(), paths.roc}
        assert written_files == set(paths.files)
        tables = {source.id for item in derivations for source in item.inputs}
        further = {"file:processed/readings.csv"} if "above" in baseline else set()
        assert tables == {"file:processed/index.csv", f"file:{STUDIES}", *further}
        with paths.scores.open(newline="") as stream:
            assert len(list(csv.DictReader(stream))) == 4


def test_readings_of_other_slices_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"readings.csv: lacks slice A_s_0150 and 7 others"):
        measured(tmp_path, [x for x in UPTAKE if x.slice_id == "V_s_9900"])
    (tmp_path / "processed/readings.csv").unlink()
    with pytest.raises(DatasetError, match=r"readings.csv: not found. Run `dvc repro preprocess`"):
        Readings.read(tmp_path / "processed", [])
