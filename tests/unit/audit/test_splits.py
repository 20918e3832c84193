"""``petct audit-split``: anybody's split, in any layout."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from typer.testing import CliRunner, Result

from petct_uad.cli.app import app
from petct_uad.cohorts.index import index_is_installed

Names = Mapping[str, Sequence[str]]  # of each set
Write = Callable[[Path, Names], Sequence[Path]]

STUDIES, PATIENTS = 1000, 900


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["audit-split", *map(str, words)])


def found(*words: object) -> dict[str, Any]:
    result = run(*words, "--json")
    assert result.exit_code in (0, 1, 3), result.output
    parsed = json.loads(result.stdout)
    assert isinstance(parsed, dict)
    return parsed


def clean_split(seed: int) -> dict[str, list[str]]:
    """900 patients with 1,000 studies, named as autoPET's are, each patient in one set."""
    rng = np.random.default_rng(seed)
    patients = [f"PETCT_{rng.integers(16**10):010x}" for _ in range(PATIENTS)]
    studies = [f"{x}_{n:05d}" for n, x in enumerate([*patients, *patients[: STUDIES - PATIENTS]])]
    where = dict(zip(patients, rng.choice(["train", "val", "test"], PATIENTS), strict=True))
    names: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for study in studies:
        names[where[study[:16]]].append(study)
    return names


def leaking_split() -> tuple[dict[str, list[str]], str]:
    """The same, with the second study of one patient of the training set in the test set."""
    names = clean_split(seed=1)
    of_two = next(
        x for x in names["train"] if sum(y.startswith(x[:16]) for y in names["train"]) > 1
    )
    moved = [x for x in names["train"] if x.startswith(of_two[:16])][1]
    names["train"].remove(moved)
    names["test"].append(moved)
    return names, of_two[6:16]


def rows(names: Names) -> list[tuple[str, str]]:
    """In an order that tells nothing of the sets."""
    return sorted((name, split) for split, listed in names.items() for name in listed)


def table(header: Sequence[str], order: int = 1, delimiter: str = ",") -> Write:
    def write(folder: Path, names: Names) -> Sequence[Path]:
        path = folder / "splits.csv"
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.writer(file, delimiter=delimiter)
            writer.writerows([header] if header else [])
            writer.writerows(row[::order] for row in rows(names))
        return [path]

    return write


def wide_table(folder: Path, names: Names) -> Sequence[Path]:
    longest = max(map(len, names.values()))
    columns = [[*listed, *[""] * (longest - len(listed))] for listed in names.values()]
    lines = [",".join(names), *map(",".join, zip(*columns, strict=True))]
    (folder / "wide.csv").write_text("\n".join(lines), encoding="utf-8")
    return [folder / "wide.csv"]


def as_json(shape: Callable[[Names], object], name: str = "splits.json") -> Write:
    def write(folder: Path, names: Names) -> Sequence[Path]:
        (folder / name).write_text(json.dumps(shape(names)), encoding="utf-8")
        return [folder / name]

    return write


def nnunet(names: Names) -> object:
    """Two folds; the second is clean in any case."""
    fold = {"train": list(names["train"]), "val": [*names["val"], *names["test"]]}
    return [{"train": names["train"][:100], "val": names["val"]}, fold]


def decathlon(names: Names) -> object:
    images = [{"image": f"./imagesTr/{x}.nii.gz"} for x in (*names["train"], *names["val"])]
    tests = [f"./imagesTs/{x}.nii.gz" for x in names["test"]]
    return {"name": "PET", "labels": {"0": "none"}, "training": images, "test": tests}


def text_lists(folder: Path, names: Names) -> Sequence[Path]:
    for split, listed in names.items():
        (folder / f"{split}.txt").write_text("\r\n".join(listed), encoding="utf-8")
    return [folder]


def text_files(folder: Path, names: Names) -> Sequence[Path]:
    text_lists(folder, names)
    return sorted(folder.glob("*.txt"))


def one_text(folder: Path, names: Names) -> Sequence[Path]:
    parts = (f"[{split}]\n" + "\n".join(listed) for split, listed in names.items())
    (folder / "splits.txt").write_text("\n\n".join(parts), encoding="utf-8")
    return [folder / "splits.txt"]


def tree(form: str, words: Mapping[str, str]) -> Write:
    def write(folder: Path, names: Names) -> Sequence[Path]:
        for name, split in rows(names):
            path = folder / form.format(split=words[split], name=name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name, encoding="utf-8")
        return [folder]

    return write


PLAIN = {"train": "training", "val": "valid", "test": "test_images"}
TASK = {"train": "imagesTr", "val": "imagesVal", "test": "imagesTs"}
LAYOUTS: dict[str, Write] = {
    "csv": table(["study", "split"]),
    "csv, other words": table(["Set", "Image Path"], order=-1, delimiter=";"),
    "csv, no heading known": table(["a", "b"]),
    "csv, no heading": table([]),
    "csv, a column per split": wide_table,
    "tsv": table(["case_id", "partition"], delimiter="\t"),
    "json": as_json(dict),
    "json of rows": as_json(lambda names: [{"id": x, "subset": y} for x, y in rows(names)]),
    "json of a split per name": as_json(lambda names: dict(rows(names))),
    "json within json": as_json(lambda names: {"version": 1, "splits": dict(names)}),
    "nnU-Net's splits_final.json": as_json(nnunet, "splits_final.json"),
    "a decathlon's dataset.json": as_json(decathlon, "dataset.json"),
    "a folder of text lists": text_lists,
    "a text list per split": text_files,
    "one text list": one_text,
    "a tree": tree("{split}/{name}/image.nii.gz", PLAIN),
    "a tree, splits below": tree("data/normal/{split}/{name}.nii.gz", PLAIN),
    "nnU-Net's folders": tree("{split}/{name}_0000.nii.gz", TASK),
}
each_layout = pytest.mark.parametrize("write", LAYOUTS.values(), ids=LAYOUTS)


@each_layout
def test_one_patient_of_a_thousand_studies_in_two_sets_is_found(
    tmp_path: Path, write: Write
) -> None:
    names, patient = leaking_split()
    paths = write(tmp_path, names)
    audit = found(*paths)
    assert audit["verdict"] == "leaks"
    assert [x["patient"] for x in audit["torn"]] == [patient]
    (torn,) = audit["torn"]
    assert [len(share["studies"]) for share in torn["shares"]] == [1, 1]
    assert run(*paths).exit_code == 1


@each_layout
def test_the_same_split_without_the_leak_raises_no_alarm(tmp_path: Path, write: Write) -> None:
    audit = found(*write(tmp_path, clean_split(seed=1)))
    assert audit["verdict"] == "clean"
    assert sum(x["names"] for x in audit["sets"] if x["fold"] in ("", "1")) == STUDIES


@pytest.mark.parametrize("seed", range(20))
def test_clean_random_splits_raise_no_alarm(tmp_path: Path, seed: int) -> None:
    for write in (LAYOUTS["csv"], LAYOUTS["json"], LAYOUTS["one text list"]):
        result = run(*write(tmp_path, clean_split(seed)))
        assert result.exit_code == 0
        assert "No leak" in result.stdout


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_split_of_this_house_is_audited_by_its_patients(tmp_path: Path) -> None:
    """And the slices that it excludes are in no set."""
    header = "slice_id,study_id,patient,split\n"
    clean = "s1_0001,s1,p1,train\ns1_0002,s1,p1,excluded\ns2_0001,s2,p2,test\n"
    path = written(tmp_path / "slices.csv", header + clean)
    assert found(path)["verdict"] == "clean"
    written(path, header + clean.replace("excluded", "test"))
    (torn,) = found(path)["torn"]
    assert torn["patient"] == "p1"
    assert [x["studies"] for x in torn["shares"]] == [["s1"], ["s1"]]


def test_each_fold_of_nnunet_is_a_split_of_its_own(tmp_path: Path) -> None:
    """A patient is tested in one fold and trained on in the others, which is no leak."""
    names = [f"sub-{i:03d}_ses-1" for i in range(10)]
    folds = [{"train": names[:5], "val": names[5:]}, {"train": names[5:], "val": names[:5]}]
    path = written(tmp_path / "splits_final.json", json.dumps(folds))
    assert found(path)["verdict"] == "clean"
    folds[1]["val"].append("sub-007_ses-2")
    written(path, json.dumps(folds))
    assert [(x["patient"], x["fold"]) for x in found(path)["torn"]] == [("007", "1")]


def test_a_patient_in_two_folds_leaks_where_folds_are_the_sets(tmp_path: Path) -> None:
    lines = ["patient_id,study,fold", "A,a1,0", "A,a2,1", "B,b1,1", "C,c1,2"]
    audit = found(written(tmp_path / "folds.csv", "\n".join(lines)))
    assert [x["patient"] for x in audit["torn"]] == ["A"]
    assert "a fold is a split" in audit["guesses"]


def test_what_was_taken_for_what_is_said(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv", "Subject ID,scan,Phase\nA,a,train\nB,b,test\n")
    output = run(path).stdout
    assert "split from 'Phase', patient from 'Subject ID', name from 'scan'" in output
    assert "patients by the file" in output


def test_what_is_not_read_is_said(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv", "id,split\nsub-1,train\nsub-2,test\nsub-3,unused\n")
    assert "1 rows are in no split" in run(path).stdout
    path = written(
        tmp_path / "x.json", '{"train": ["sub-1"], "test": ["sub-2"], "more": ["sub-1"]}'
    )
    assert "not read: more" in run(path).stdout
    for name in ("tree/train/sub-1.png", "tree/test/sub-2.png", "tree/other/sub-1.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    assert "1 files lie in no folder that names a split" in run(tmp_path / "tree").stdout


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv", "who,what,part\nA,a1,one\nA,a2,two\n")
    assert run(path).exit_code == 4
    words = ("--split-column", "part", "--patient-column", "who", "--name-column", "what")
    assert [x["patient"] for x in found(path, *words)["torn"]] == ["A"]
    wrong = run(path, "--split-column", "Part")
    assert wrong.exit_code == 4


def test_names_of_no_known_patient_are_no_clean_bill(tmp_path: Path) -> None:
    path = written(tmp_path / "x.json", json.dumps({"train": ["a1", "a2"], "test": ["b1"]}))
    result = run(path)
    assert result.exit_code == 3
    assert "of patients nothing is said" in result.stdout
    known = found(path, "--pattern", "^([a-z])")
    assert (known["verdict"], known["unknown"]) == ("clean", [])
    partly = found(path, "--pattern", "^(a)")
    assert (partly["verdict"], partly["unknown"]) == ("unknown", ["b1"])


def test_a_name_in_two_sets_leaks_whoever_it_is(tmp_path: Path) -> None:
    path = written(tmp_path / "x.json", json.dumps({"train": ["q", "r"], "test": ["q"]}))
    audit = found(path)
    assert audit["verdict"] == "leaks"
    assert [x["names"] for x in audit["repeated"]] == [["q"]]


def test_a_name_twice_in_one_set_is_said_and_no_leak(tmp_path: Path) -> None:
    path = written(
        tmp_path / "x.json", json.dumps({"train": ["sub-1", "sub-1"], "test": ["sub-2"]})
    )
    audit = found(path)
    assert audit["verdict"] == "clean"
    assert [(x["name"], x["times"]) for x in audit["duplicates"]] == [("sub-1", 2)]


def test_a_file_copied_under_another_patients_name_is_found(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).bytes(5000)
    for name in ("train/sub-1.png", "test/sub-2.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(pixels)
    audit = found(tmp_path)
    assert audit["verdict"] == "leaks"
    assert [x["names"] for x in audit["copies"]] == [["test/sub-2.png", "train/sub-1.png"]]


def test_empty_masks_that_are_alike_are_no_copies(tmp_path: Path) -> None:
    for name in ("train/labels/sub-1.nii", "test/labels/sub-2.nii"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(bytes(5000))
    assert found(tmp_path)["verdict"] == "clean"


def test_a_folder_called_subject01_does_not_make_all_files_one_patients(tmp_path: Path) -> None:
    names = {"train": ["subject01/a.png", "subject01/b.png"], "test": ["subject01/c.png"]}
    path = written(tmp_path / "x.json", json.dumps(names))
    assert found(path)["verdict"] == "unknown"


def test_all_scans_of_one_public_patient_in_two_sets_are_a_leak(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv", "PETCT_0011f3deaf_1,train\nPETCT_0011f3deaf_2,test\n")
    assert [x["patient"] for x in found(path)["torn"]] == ["0011f3deaf"]


def test_patients_1a_and_1b_are_two(tmp_path: Path) -> None:
    names = {"train": ["patient_1a", "patient_2"], "test": ["patient_1b", "patient_3"]}
    path = written(tmp_path / "x.json", json.dumps(names))
    assert found(path)["torn"] == []
    path = written(tmp_path / "x.csv", "patient,split\npatient 1a,train\npatient 1b,test\n")
    assert found(path)["verdict"] == "clean"


def test_a_row_without_a_patient_does_not_hide_the_others(tmp_path: Path) -> None:
    lines = ["patient,scan,split", "A,a1,train", "A,a2,test", ",b1,test"]
    audit = found(written(tmp_path / "x.csv", "\n".join(lines)))
    assert [x["patient"] for x in audit["torn"]] == ["A"]
    assert audit["unknown"] == ["b1"]


def test_patients_who_differ_in_leading_zeros_only_may_be_one(tmp_path: Path) -> None:
    """A spreadsheet makes 7 of 007."""
    path = written(tmp_path / "x.csv", "patient,scan,split\n007,a,train\n7,b,test\n8,c,test\n")
    result = run(path)
    assert result.exit_code == 3
    assert "007, 7: train, test" in result.stdout


def test_dicom_files_say_themselves_whose_they_are(tmp_path: Path) -> None:
    """Whatever their folders are called; a damaged one is of no known patient."""
    for name, who in {"train/IM1": "A", "train/IM2": "B", "test/IM1": "B", "test/IM2": "C"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_dicom(tmp_path / name, who)
    assert [x["patient"] for x in found(tmp_path)["torn"]] == ["B"]
    (tmp_path / "test/IM1").write_bytes((tmp_path / "test/IM2").read_bytes()[:140])
    audit = found(tmp_path)
    assert (audit["verdict"], audit["unknown"]) == ("unknown", ["test/IM1"])


def test_what_is_no_file_is_passed_over(tmp_path: Path) -> None:
    """A pipe without a writer, a link to nothing, a link back to the folder."""
    for name in ("train/sub-1.nii", "test/sub-2.nii"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "test/sub-1")
    (tmp_path / "test/sub-1.nii").symlink_to("nowhere")
    (tmp_path / "test/train").symlink_to(tmp_path)
    audit = found(tmp_path)
    assert audit["verdict"] == "clean"
    assert "1 linked folders are not followed, and not read" in audit["guesses"]


def write_dicom(path: Path, patient: str) -> None:
    dataset = Dataset()
    dataset.PatientID = patient
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=[patient])
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[path.as_posix()])
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)


HOSTILE = {
    "nothing": ("x.csv", b"", "an empty file"),
    "pixels": ("x.png", b"\x89PNG\r\n\x1a\n\0\0\xff", "bytes that are no text"),
    "zeros": ("x.csv", bytes(100), "a binary file"),
    "a spreadsheet": ("x.xlsx", b"PK\x03\x04\xff\xfe\x00\x00", "bytes that are no text"),
    "half a JSON": ("x.json", b'{"train": ["a", ', "Expecting value"),
    "a key twice": ("x.json", b'{"train": ["a"], "train": ["b"], "test": []}', "'train' twice"),
    "deep JSON": ("x.json", b"[" * 100_000, "nested too deeply"),
    "no names": ("x.json", b'{"train": [], "test": []}', "no names"),
    "numbers": ("x.json", b"[1, 2, 3]", "list"),
    "no name": ("x.json", b'{"train": [null], "test": ["a"]}', "NoneType"),
    "one set": ("x.json", b'{"train": ["a", "b"]}', "names of 'train' only"),
    "a short row": ("x.csv", b"name,split\na,train\nb\n", "1 cells in row 3"),
    "a heading twice": ("x.csv", b"split,split\ntrain,a\n", "more than one column 'split'"),
    "no split": ("x.csv", b"name,age\na,61\nb,62\n", "none of which says the split"),
    "a text of other things": ("x.txt", b"Dear all,\nsee below.\n", "cells"),
    "one long line": ("x.csv", b'split,name\n"' + b"a" * 200_000, "no table"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_split_is_named_without_a_traceback(tmp_path: Path, name: str) -> None:
    file, content, message = HOSTILE[name]
    (tmp_path / file).write_bytes(content)
    result = run(tmp_path / file)
    assert result.exit_code == 4
    assert isinstance(result.exception, SystemExit)
    assert message in result.output
    assert "expected" in result.output


def test_a_missing_file_an_empty_folder_and_a_wrong_pattern_are_named(tmp_path: Path) -> None:
    assert "found nothing" in run(tmp_path / "none.csv").output
    assert "no names" in run(tmp_path).output
    path = written(tmp_path / "x.json", json.dumps({"train": ["a"], "test": ["b"]}))
    assert "expected a regular expression" in run(path, "--pattern", "(").output


def test_a_name_cannot_command_the_terminal(tmp_path: Path) -> None:
    names = {"train": ["sub-1\x1b[2J", "sub-2"], "test": ["sub-1\x1b[2J"]}
    path = written(tmp_path / "x.json", json.dumps(names))
    for words in ((), ("--json",)):
        assert "\x1b" not in run(path, *words).stdout


def test_a_badge_says_the_verdict(tmp_path: Path) -> None:
    names, _ = leaking_split()
    (path,) = LAYOUTS["csv"](tmp_path, names)
    run(path, "--badge", tmp_path / "badge.svg")
    assert "leaks 1 patient<" in (tmp_path / "badge.svg").read_text(encoding="utf-8")
    (path,) = LAYOUTS["csv"](tmp_path, clean_split(0))
    run(path, "--badge", tmp_path / "badge.json")
    badge = json.loads((tmp_path / "badge.json").read_text(encoding="utf-8"))
    assert (badge["schemaVersion"], badge["message"]) == (1, "no leak")


def test_the_output_does_not_depend_on_the_order_of_the_file(tmp_path: Path) -> None:
    names, _ = leaking_split()
    (path,) = LAYOUTS["json"](tmp_path, names)
    first = run(path, "--json").stdout
    LAYOUTS["json"](tmp_path, {split: listed[::-1] for split, listed in names.items()})
    assert run(path, "--json").stdout == first


@pytest.mark.skipif(not index_is_installed(), reason="the extra `cohorts` is not installed")
def test_a_cohorts_index_knows_whose_a_study_is(tmp_path: Path) -> None:
    """By its StudyInstanceUID, by a PatientID within a name, and by the hash alone."""
    from petct_uad.cohorts.index import read_series

    first, *_, last = read_series("fdg_pet_ct_lesions")
    names = {
        "train": [first.study, f"mine/{last.patient}_x.nii.gz"],
        "test": [f"fdg_{first.patient.removeprefix('PETCT_')}_2003", "somebody"],
    }
    path = written(tmp_path / "x.json", json.dumps(names))
    audit = found(path, "--cohort", "fdg_pet_ct_lesions")
    assert [x["patient"] for x in audit["torn"]] == [first.patient]
    assert audit["unknown"] == ["somebody"]
    assert run(path, "--cohort", "fdg_pet_ct_lesion").exit_code == 4


@pytest.mark.skipif(index_is_installed(), reason="the extra `cohorts` is installed")
def test_without_the_index_a_cohort_says_what_to_install(tmp_path: Path) -> None:
    path = written(tmp_path / "x.json", json.dumps({"train": ["a"], "test": ["b"]}))
    result = run(path, "--cohort", "fdg_pet_ct_lesions")
    assert result.exit_code == 4
    assert "pip install '.[cohorts]'" in result.output
