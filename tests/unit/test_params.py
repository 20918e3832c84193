"""params.yaml refuses what it does not understand, and says what it would take."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from petct_uad.cli.presets import preset_content, preset_names
from petct_uad.core.errors import ParamsError
from petct_uad.core.params.reading import ParamsFile
from petct_uad.models.benchmark import BenchmarkEntry
from petct_uad.models.cmad.params import CmadParams
from petct_uad.models.scrd4ad.params import Scrd4adParams
from petct_uad.schema import load_params, parse_params

ROOT = Path(__file__).resolve().parents[2]
PRESETS = preset_names(ROOT / "params")


def with_value(tmp_path: Path, key: str, value: object) -> Path:
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    *groups, last = key.split(".")
    node = content
    for group in groups:
        node = node[group]
    node[last] = value
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_whole_valid_file(name: str) -> None:
    content = preset_content(name, ROOT / "params")
    parse_params(content, Path(f"{name}.yaml"))
    assert "# How many patients? 4 to 2000." in content


def test_there_are_presets_for_a_laptop_a_test_the_baselines_pictures_and_each_paper() -> None:
    named = ("cmad", "cmad-table2", "hdhkd", "scrd4ad", "hetero-ae", "qfae")
    papers = {f"paper-{name}" for name in named}
    others = {"smoke", "baselines", "ablations", "pictures", "cmad-table2"}
    assert set(PRESETS) == {"cpu"} | others | papers


@pytest.mark.parametrize(
    ("change", "message"),
    [("model: {cmptt: 4}", "model.cmptt is no key"), ("benchmark: [x]", "x: no such row")],
)
def test_preset_that_names_what_the_base_lacks_is_refused(
    tmp_path: Path, change: str, message: str
) -> None:
    folder = tmp_path / "params"
    folder.mkdir()
    for path in (tmp_path / "params.yaml", folder / "cpu.yaml"):
        path.write_text((ROOT / "params.yaml").read_text())
    (folder / "mine.yaml").write_text(change)
    with pytest.raises(ParamsError, match=message):
        preset_content("mine", folder)


def test_baselines_have_pet_ct_and_both_and_keep_every_value_of_the_base() -> None:
    base = parse_params(preset_content("cpu", ROOT / "params"), Path("cpu.yaml"))
    params = parse_params(preset_content("baselines", ROOT / "params"), Path("baselines.yaml"))
    added = {name: rows for name, rows in params.benchmark.items() if name not in base.benchmark}
    assert added.keys() >= {"padim", "stfpm", "rd4ad", "efficient_ad", "autoencoder"}
    shared = params.benchmark.keys() - added.keys()
    assert shared >= {"cmad", "hdhkd", "scrd4ad", "hetero_ae", "qfae", "patchcore"}
    assert all(params.benchmark[name] == base.benchmark[name] for name in shared)
    for name, family in added.items():
        both = (f"{name}-pet", f"{name}-ct")
        assert tuple(family.trained) == both
        assert family.rows == {both[0]: both[:1], both[1]: both[1:], f"{name}-petct": both}
    assert params.model_copy(update={"benchmark": {}}) == base.model_copy(update={"benchmark": {}})


def test_a_row_of_another_name_than_its_model_has_its_own_section() -> None:
    params = parse_params(preset_content("baselines", ROOT / "params"), Path("baselines.yaml"))
    family = params.benchmark["rd4ad"]
    assert (family.model, family.name) == ("scrd4ad", "rd4ad")
    assert family.trained["rd4ad-pet"].model == "scrd4ad"
    section = params.model_section(family.params)
    assert section is getattr(params.models, "rd4ad")  # noqa: B009  # made with the schema
    assert isinstance(section, Scrd4adParams)
    assert not section.contrastive
    assert not section.scale_aware


def test_an_ablation_changes_its_keys_and_no_others() -> None:
    params = parse_params(preset_content("ablations", ROOT / "params"), Path("ablations.yaml"))
    changed = {name: rows.changed(params.model) for name, rows in params.benchmark.items()}
    assert changed.pop("cmad") == params.model
    assert changed["cmad_no_cmh"] == params.model.model_copy(update={"cmh": False})
    assert changed["cmad_no_gfr"] == params.model.model_copy(update={"gfr": False})
    assert {changed[f"cmad_{n}_tokens"].cmpt for n in (4, 16)} == {4, 16}


def test_ablations_are_the_rows_that_the_papers_claims_ask_for() -> None:
    params = parse_params(preset_content("ablations", ROOT / "params"), Path("ablations.yaml"))
    asked = {run for claim in CmadParams.claims for run in (claim.better, *claim.worse)}
    assert set(params.rows) == asked


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cmptt": 4}, r"benchmark.cmad_x.changes: model.cmptt = 4: unknown key. Did you mean"),
        ({"cmpt": 65}, r"changes: model.cmpt = 65: expected an integer, at least 1, at most 64"),
        ({}, "variant and changes: an ablation has both"),
    ],
)
def test_an_ablation_of_what_is_not_there_is_refused(
    tmp_path: Path, changes: dict[str, int], message: str
) -> None:
    row: dict[str, object] = {
        "model": "cmad",
        "modalities": ["pet"],
        "params": "model",
        "variant": "x",
    }
    row |= {"teacher": "teacher", "after": "data/validation.passed", "changes": changes}
    with pytest.raises(ParamsError, match=message):
        load_params(with_value(tmp_path, "benchmark.cmad_x", row))


@pytest.mark.parametrize(
    ("row", "key", "value", "message"),
    [
        ("benchmark.patchcore", "params", "models.rd4ad", "must be 'models.patchcore'"),
        ("benchmark.scrd4ad", "params", "models.rd4ad", "must be called rd4ad"),
        ("benchmark.scrd4ad", "modalities", ["pet", "petct"], "list all three"),
        ("benchmark.cmad", "modalities", ["pet", "pet"], "each may stand there once"),
    ],
)
def test_rows_that_contradict_themselves_are_refused(
    tmp_path: Path, row: str, key: str, value: object, message: str
) -> None:
    with pytest.raises(ParamsError, match=message):
        load_params(with_value(tmp_path, f"{row}.{key}", value))


def test_a_petct_row_is_trained_by_the_models_that_say_that_they_see_both_and_by_no_other() -> None:
    params = load_params(ROOT / "params.yaml")
    assert "cmad-petct" in params.benchmark["cmad"].trained
    assert "patchcore-petct" not in params.benchmark["patchcore"].trained
    for name, entry in params.benchmark.items():
        assert (f"{name}-petct" in entry.trained) == entry.declared.sees_both_modalities


def test_committed_params_are_the_cpu_preset() -> None:
    assert load_params(ROOT / "params.yaml") == load_params(ROOT / "params/cpu.yaml")


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "null"), (8.0, "8.0"), ("eight", "'eight'"), (-1, "-1"), (65, "65")]
)
def test_wrong_number_of_prior_tokens_names_key_value_and_range(
    tmp_path: Path, value: object, shown: str
) -> None:
    with pytest.raises(ParamsError) as error:
        load_params(with_value(tmp_path, "model.cmpt", value))
    message = str(error.value)
    assert f"model.cmpt = {shown}" in message
    assert "an integer, at least 1, at most 64" in message


@pytest.mark.parametrize("key", ["model.cmptt", "modle", "split.patient"])
def test_misspelt_key_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ParamsError, match=f"{key} = 4: unknown key"):
        load_params(with_value(tmp_path, key, 4))


def test_misspelt_key_gets_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="Did you mean 'cmpt'"):
        load_params(with_value(tmp_path, "model.cmptt", 4))


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("split.train_fraction", 0.95, "test gets the rest"),
        ("split.fold", 1, "fold = 1: must be below folds = 0"),
        ("split.folds", 21, "at most 20"),
        ("split.guard_mm", -1.0, "at least 0"),
        ("model.heads", 5, "heads must divide width"),
        ("preprocess.ct_low_hu", 1000.0, "below ct_high_hu"),
        ("preprocess.image_size_px", 100, "needs a multiple of 16"),
        ("dataset", "../secret", "matching"),
        ("train.device", "gpu", "one of 'auto', 'cpu', 'cuda'"),
        ("model.schedule.learning_rate", float("nan"), "a number"),
    ],
)
def test_impossible_value_is_refused_with_its_reason(
    tmp_path: Path, key: str, value: object, reason: str
) -> None:
    with pytest.raises(ParamsError, match=reason):
        load_params(with_value(tmp_path, key, value))


# What each key of the stages from register to validate takes, as a refusal says it.
TAKES = {
    "register": {
        "refine": "one of 'none', 'auto', 'rigid', 'affine', 'bspline'",
        "spacing_mm": "a number, at least 0.5, at most 10",
        "body_threshold_hu": "a number, at least -900, at most 0",
        "max_displacement_mm": "a number, at least 0, at most 100",
        "histogram_bins": "an integer, at least 8, at most 256",
        "sampling_fraction": "a number, above 0, at most 1",
        "iterations": "an integer, at least 1, at most 1000",
        "seed": "an integer, at least 0, at most 2147483647",
    },
    "split": {
        "protocol": "one of 'patient', 'cmad'",
        "seed": "an integer, at least 0, at most 2147483647",
        "assign": "one of 'shuffle', 'hash'",
        "train_fraction": "a number, above 0, below 1",
        "val_fraction": "a number, above 0, below 1",
        "folds": "an integer, at least 0, at most 20",
        "fold": "an integer, at least 0, at most 19",
        "test_patients": "one of 'all', 'development', 'held_out'",
        "min_lesion_area_mm2": "a number, at least 0, at most 10000",
        "guard_mm": "a number, at least 0, at most 100",
        "unlabelled": "one of 'normal', 'exclude'",
        "duplicates": "one of 'drop', 'keep'",
    },
    "preprocess": {
        "image_size_px": "an integer, at least 32, at most 1024, a multiple of 2",
        "roi_margin_mm": "a number, at least 0, at most 100",
        "neighbours_mm": "a number, at least 0, at most 100",
        "ct_low_hu": "a number, at least -1100, at most 3000",
        "ct_high_hu": "a number, at least -1000, at most 3100",
        "suv_high": "a number, above 0, at most 100",
        "bilateral_ct": "true or false",
        "bilateral_pet": "true or false",
        "bilateral_sigma_mm": "a number, above 0, at most 20",
        "bilateral_range_fraction": "a number, above 0, at most 1",
        "pictures": "one of 'stretch', 'canvas'",
    },
    "validate": {
        "max_lost_study_fraction": "a number, at least 0, at most 1",
        "min_train_slices": "an integer, at least 1",
        "max_suv": "a number, above 0",
        "max_spacing_mm": "a number, above 0",
        "max_label_imbalance": "a number, at least 0, at most 1",
        "near_duplicate_correlation": "a number, at least 0.9, at most 1",
        "drift_alpha": "a number, above 0, below 1",
    },
}


@pytest.mark.parametrize("section", TAKES)
def test_every_key_says_which_values_it_takes(tmp_path: Path, section: str) -> None:
    wrong: dict[str, list[int]] = {key: [] for key in TAKES[section]}
    path = with_value(tmp_path, section, wrong)
    with pytest.raises(ParamsError) as error:
        load_params(path)
    assert str(error.value).splitlines() == [
        f"{path}: {section}.{key} = []: expected {taken}" for key, taken in TAKES[section].items()
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size_px": 120}, "needs a multiple of 16"),
        ({"image_size_px": 144}, "must be at most preprocess.image_size_px = 128"),
        ({"teacher": "teachers.resnet"}, "teachers has no 'resnet'; expected 'teacher' or one of"),
        ({"teacher": "teachers.dinov2_vit_base"}, "this model needs a convolutional teacher"),
    ],
)
def test_a_row_that_does_not_fit_its_teacher_or_the_shards_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["benchmark"]["patchcore"] |= change
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ParamsError, match=re.escape(message)):
        load_params(tmp_path / "params.yaml")


def test_one_table_may_hold_a_vit_at_any_size_beside_a_cnn(tmp_path: Path) -> None:
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["benchmark"]["cmad"] |= {"teacher": "teachers.dinov2_vit_base", "image_size_px": 100}
    content["benchmark"]["patchcore"]["image_size_px"] = 64
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    params = load_params(tmp_path / "params.yaml")
    names = [params.teacher_of(params.benchmark[name]).name for name in ("cmad", "patchcore")]
    assert names == ["vit_base_patch14_reg4_dinov2.lvd142m", "efficientnet_lite0"]


def test_a_row_that_waits_for_a_distilled_teacher_has_no_other(tmp_path: Path) -> None:
    path = with_value(tmp_path, "benchmark.hdhkd.image_size_px", 64)
    with pytest.raises(ParamsError, match="hdhkd waits for models/distil, which is made from"):
        load_params(path)


@pytest.mark.parametrize(
    ("key", "value"), [("model.cmpt", 65), ("model.schedule.decy", "step"), ("model.heads", 5)]
)
def test_a_section_alone_is_refused_in_the_words_of_the_whole_file(
    tmp_path: Path, key: str, value: object
) -> None:
    path = with_value(tmp_path, key, value)
    with pytest.raises(ParamsError) as whole:
        load_params(path)
    with pytest.raises(ParamsError) as alone:
        ParamsFile.read(path).section(CmadParams, "model")
    assert str(alone.value) == str(whole.value)


def test_a_section_is_read_whatever_stands_in_the_others(tmp_path: Path) -> None:
    path = with_value(tmp_path, "ingest.labels", "no such source")
    found = ParamsFile.read(path).section(CmadParams, "model")
    assert found == load_params(ROOT / "params.yaml").model


def test_a_section_that_is_not_there_is_named_with_those_that_are() -> None:
    params = ParamsFile.read(ROOT / "params.yaml")
    with pytest.raises(ParamsError, match=r"benchmark.cmat: not in .*; expected one of cmad, "):
        params.section(BenchmarkEntry, "benchmark.cmat")


def test_a_data_set_outside_its_folder_is_refused(tmp_path: Path) -> None:
    params = ParamsFile.read(with_value(tmp_path, "dataset", "../secret"))
    with pytest.raises(ParamsError, match=r"dataset = '../secret': expected a string, matching"):
        _ = params.dataset


def test_the_whole_file_is_known_without_loading_torch() -> None:
    code = "import sys, petct_uad.schema; sys.exit('torch' in sys.modules)"
    environment = {"PYTHONPATH": str(ROOT / "src")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_params_stage_fails_in_one_line_without_traceback(tmp_path: Path) -> None:
    with_value(tmp_path, "model.cmpt", "eight")
    run = subprocess.run(
        [sys.executable, ROOT / "stages/params.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT / "src"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "model.cmpt = 'eight'" in run.stderr
    assert "Traceback" not in run.stderr
