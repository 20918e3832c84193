"""Does ``petct lineage verify`` stay silent where nobody corrupted anything?

    PYTHONPATH=src python benchmarks/untouched.py [--only NAME ...]

clones this repository's HEAD twenty times, each with a small pipeline that differs from the others
in what lineage sees, and audits each clone after every step of a person's day: repro, commit, an
experiment, checkouts there and back, gc. Any finding is a false alarm. About two minutes of one
core for each clone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import chdir, nullcontext
from dataclasses import dataclass, field
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image
from ruamel.yaml import YAML

from petct_uad.cli.presets import preset_content
from petct_uad.core.errors import PetctError
from petct_uad.lineage.verify import verify

ROOT = Path(__file__).resolve().parents[1]
SMALL: Mapping[str, Any] = {
    "phantom.ct_matrix": 64, "phantom.extent_mm": 80.0, "register.iterations": 20,
    "workers": 1,
    "model.scan": "reference", "models.hdhkd.scan": "reference",  # needs no compiling
    "split.train_fraction": 0.34, "split.val_fraction": 0.17, "register.refine": "none",
    "validate.max_label_imbalance": 1.0, "validate.min_train_slices": 1,
}  # fmt: skip
ITERATIONS = 4
app = typer.Typer()


@dataclass(frozen=True)
class Case:
    """A repository, and the experiment that is run in it."""

    name: str
    experiment: str  # for `dvc exp run -S`
    patients: int = 6
    params: Mapping[str, Any] = field(default_factory=dict)
    rows: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"patchcore": ("pet",)})
    data: str = "phantom"  # or what is added: dicom, pictures
    withdrawn: str = ""  # a PatientID, before the experiment


CASES = (
    Case("one-row", "models.patchcore.coreset_fraction=0.1"),
    Case("another-cohort", "phantom.seed=12", 5, {"phantom.seed": 11}),
    Case("four-patients", "phantom.patients=5", 4, {"phantom.seed": 1}),
    Case("fused-rows", "preprocess.suv_high=6.0", 7, rows={"patchcore": ("pet", "ct", "petct")}),
    Case("leaking-protocol", "split.protocol=patient", 5, {"split.protocol": "cmad"}),
    Case("honest-to-leaking", "split.protocol=cmad", 8, {"phantom.seed": 2}),
    Case("first-fold", "models.patchcore.neighbours=3", 8, {"split.folds": 4, "split.fold": 1}),
    Case("last-fold", "preprocess.image_size_px=80", 8, {"split.folds": 3, "split.fold": 2}),
    Case("secret-key", "split.guard_mm=0.0", 5, {"ingest.pseudonyms": "secret"}),
    Case("public-key", "split.seed=3", 6, {"ingest.pseudonyms": "public", "phantom.seed": 3}),
    Case("withdrawal", "split.seed=0", 8, {"phantom.seed": 4}, withdrawn="PHANTOM-0003"),
    Case("scanner-alignment", "register.refine=none", 6, {"register.refine": "rigid"}),
    Case("two-seeds", "train.seeds=[1,2,3]", 5, {"train.seeds": [1, 2]}, {"padim": ("ct", "pet")}),
    Case("student", "models.stfpm.schedule.iterations=6", rows={"stfpm": ("pet",)}),
    Case("distilled", "distil.width=0.25", 6, rows={"hdhkd": ("pet",)}),
    Case("teacher", "teacher.weights=random", 7, rows={"hetero_ae": ("ct",)}),
    Case("both-modalities", "model.cmpt=4", 6, rows={"cmad": ("petct", "pet")}),
    Case("row-goes", "~benchmark.padim", 6, rows={"patchcore": ("pet",), "padim": ("pet",)}),
    Case("added-dicom", "split.guard_mm=0.0", 6, {"phantom.seed": 5}, data="dicom"),
    Case("added-pictures", "split.duplicates=keep", data="pictures"),
)  # fmt: skip


@dataclass(frozen=True)
class Clone:
    """A repository of its own, in which a person types commands."""

    root: Path

    def run(self, *command: str) -> str:
        """Run a command and return what it printed; nothing of a surrounding repository is seen."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        kept |= {"PYTHONPATH": "src", "PETCT_KEY_FILE": str(self.root.parent / "key")}
        done = subprocess.run(
            command, cwd=self.root, env=kept, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{self.root.name}: {' '.join(command)}\n{done.stdout}")
        return done.stdout

    def dvc(self, *words: str) -> None:
        """Run DVC."""
        self.run(sys.executable, "-m", "dvc", *words)

    def git(self, *words: str) -> str:
        """Run git under a name of its own."""
        return self.run("git", "-c", "user.name=x", "-c", "user.email=x@example.org", *words)

    def petct(self, *words: str) -> str:
        """Run this clone's own commands."""
        return self.run(sys.executable, "-m", "petct_uad.cli.app", *words)

    def commit(self, message: str) -> None:
        """All that is there."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)

    def switch(self, *words: str) -> None:
        """What a person does to see another state."""
        self.git("checkout", "--quiet", "--force", *words)
        self.dvc("checkout", "--quiet", "--force")


@dataclass(frozen=True)
class Audit:
    """What ``verify`` said after one step."""

    step: str
    files: int
    objects: int
    findings: tuple[str, ...]

    def __str__(self) -> str:
        counts = f"{self.step:29} {self.files:5} files, {self.objects:5} objects"
        return "\n  ".join([f"{counts}, findings: {len(self.findings)}", *self.findings])


def audit(clone: Clone, step: str) -> Audit:
    """Verify; that it cannot is a finding too."""
    with chdir(clone.root):
        try:
            said = verify([])
        except PetctError as error:
            return Audit(step, 0, 0, (str(error),))
    return Audit(step, said.files, said.objects, tuple(map(str, said.findings)))


def make_clone(case: Case, revision: str, folder: Path) -> Clone:
    """Clone, choose params, add data; all committed."""
    clone = Clone(folder / case.name)
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone.root)], check=True)
    clone.git("checkout", "--quiet", "-B", "main", revision)
    write_params(case, clone.root)
    if case.params.get("ingest.pseudonyms") == "secret":
        clone.petct("key", "create")
    if case.data != "phantom":
        add_data(case, clone, folder / f"{case.name}-source")
    clone.commit("a small pipeline")
    return clone


def write_params(case: Case, root: Path) -> None:
    """The smoke preset, smaller still, with the rows of the case."""
    params = YAML().load(preset_content("smoke", root / "params"))
    menu = YAML().load((root / "params/baselines.yaml").read_text())["benchmark"]
    params["benchmark"] = {
        name: menu[name] | {"modalities": list(modalities)}
        for name, modalities in case.rows.items()
    }
    for name, section in params["models"].items():
        if name in case.rows and "schedule" in section:
            section["schedule"]["iterations"] = ITERATIONS
    for name, value in {**SMALL, "phantom.patients": case.patients, **case.params}.items():
        *sections, key = name.split(".")
        reduce(getitem, sections, params)[key] = value
    if case.data != "phantom":
        params["dataset"] = "added"
    YAML().dump(params, root / "params.yaml")


def add_data(case: Case, clone: Clone, source: Path) -> None:
    """A data set of the owner's, by ``petct add``."""
    if case.data == "dicom":
        clone.dvc("repro", "data/dvc.yaml:phantom")
        shutil.copytree(clone.root / "data/raw/phantom", source)
    else:
        draw_pictures(source)
    clone.petct("add", "added", str(source))


def draw_pictures(folder: Path) -> None:
    """BMAD's folders; one test picture is a training picture again."""
    draw = np.random.default_rng(0)
    counts = {"train/good": 20, "valid/good/img": 4, "test/good/img": 6, "test/Ungood/img": 6}
    for place, count in counts.items():
        (folder / place).mkdir(parents=True)
        for i in range(count):
            grey = draw.integers(40, 120, (6, 6), np.uint8)
            Image.fromarray(grey).resize((48, 48)).save(folder / place / f"{i}.png")
    (folder / "test/Ungood/label").mkdir()
    for i in range(counts["test/Ungood/img"]):
        lesion = Image.new("L", (48, 48))
        lesion.paste(255, (10 + i, 10, 22 + i, 22))
        lesion.save(folder / f"test/Ungood/label/{i}.png")
    shutil.copy(folder / "train/good/0.png", folder / "test/good/img/0.png")


def a_day(case: Case, clone: Clone) -> Iterator[Audit]:
    """Every step, each followed by the audit.

    Raises:
        RuntimeError: a step itself failed, or the experiment changed nothing.
    """
    clone.dvc("repro")
    yield audit(clone, "repro")
    clone.commit("results")
    yield audit(clone, "commit")
    if case.withdrawn:
        clone.petct("lineage", "impact", case.withdrawn, "--withdraw", "--date", "2026-01-01")
    clone.dvc("exp", "run", "--name", "other", "-S", case.experiment)
    if not clone.git("diff", "--name-only", "HEAD", "--", "dvc.lock"):
        raise RuntimeError(f"{case.name}: {case.experiment} changed nothing")
    yield audit(clone, "exp run")
    clone.switch("HEAD", "--", ".")
    yield audit(clone, "checkout of the commit")
    clone.dvc("exp", "apply", "other")
    yield audit(clone, "exp apply")
    clone.git("checkout", "--quiet", "-b", "other")
    clone.commit("experiment")
    clone.switch("main")
    yield audit(clone, "checkout of main")
    clone.dvc("gc", "--workspace", "--force", "--quiet")
    yield audit(clone, "gc --workspace")


@app.command()
def main(
    only: Annotated[list[str], typer.Option(help="names of cases, in their order")] = [],  # noqa: B006
    revision: Annotated[str, typer.Option(help="of this repository")] = "HEAD",
    keep: Annotated[Path | None, typer.Option(help="where the repositories stay")] = None,
) -> None:
    """Count audits, and findings that should not be there."""
    commit = Clone(ROOT).git("rev-parse", revision).strip()
    cases = {case.name: case for case in CASES}
    audits = alarms = broken = 0
    for case in [cases[name] for name in only or cases]:
        with tempfile.TemporaryDirectory() if keep is None else nullcontext(str(keep)) as folder:
            try:
                for said in a_day(case, make_clone(case, commit, Path(folder))):
                    audits, alarms = audits + 1, alarms + bool(said.findings)
                    print(f"{case.name:18} {said}", flush=True)
            except RuntimeError as error:
                broken += 1
                print(f"{case.name:18} could not continue: {error}", flush=True)
    print(f"{audits} audits, {alarms} with an alarm; {broken} repositories could not continue")
    raise typer.Exit(1 if alarms or broken else 0)


if __name__ == "__main__":
    app()
