"""Every command that a page names, and the test that runs it, or why none does.

A fenced block without a language, or with ``sh``, holds commands; what is in backquotes and
begins with a program of ours is one too, in which a word in capitals is the reader's own. A block
with ``text`` shows what the last command of the fence before it prints.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from doctest import ELLIPSIS, OutputChecker
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# History and what a program writes are no pages to follow.
_NO_PAGES = ("CHANGELOG.md", "metrics/")
_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_TYPED = ("", "sh", "bash")
_INLINE = re.compile(r"`((?:petct|dvc|make|pip|python) [^`\n]+)`")
_OWN = re.compile(r"(?<![\w./-])[A-Z][A-Z_]*(?![\w./-])|\.\.\.|[\[|]")  # NAME, SLICE_ID..., A|B


@dataclass(frozen=True)
class Command:
    """One command of one page.

    Attributes:
        page: by its path in the repository.
        text: without comment and continuation.
        inline: is it in a sentence, so that a word in capitals is the reader's own?
    """

    page: str
    text: str
    inline: bool

    @property
    def has_blanks(self) -> bool:
        """Is there anything that the reader fills in?"""
        return bool(_OWN.search(self.text)) if self.inline else "..." in self.text


@dataclass(frozen=True)
class Shown:
    """What a page says that a command prints.

    Attributes:
        page: by its path in the repository.
        command: as :class:`Command` has it.
        lines: whole, in the order of the output, others left out; ``...`` is what differs by run.
    """

    page: str
    command: str
    lines: tuple[str, ...]

    def is_in(self, printed: str) -> bool:
        """Does the command print these lines, in this order?"""
        wanted = "...".join(("", *_apart(self.lines), ""))
        return OutputChecker().check_output(wanted, "".join(_apart(printed.splitlines())), ELLIPSIS)


def _apart(lines: Iterable[str]) -> Iterator[str]:
    """Each between line ends of its own, since ``...`` between two lines may stand for none."""
    return (f"\n{line.rstrip()}\n" for line in lines)


def pages() -> list[str]:
    """Every page of the repository that a person follows."""
    listed = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    return [name for name in listed if not name.startswith(_NO_PAGES)]


def commands() -> list[Command]:
    """Every command of every page, fenced ones first on each."""
    return [
        command
        for page in pages()
        for command in commands_of(page, (ROOT / page).read_text(encoding="utf-8"))
    ]


def commands_of(page: str, text: str) -> Iterator[Command]:
    """The commands of one page."""
    for language, block in _FENCE.findall(text):
        if language in _TYPED:
            yield from (Command(page, line, False) for line in _lines(block))
    for found in dict.fromkeys(_INLINE.findall(_FENCE.sub("", text))):
        yield from (Command(page, part.strip(), True) for part in found.split(" && "))


def shown() -> list[Shown]:
    """Every output that a page shows."""
    return [
        found
        for page in pages()
        for found in shown_of(page, (ROOT / page).read_text(encoding="utf-8"))
    ]


def shown_of(page: str, text: str) -> Iterator[Shown]:
    """The outputs that one page shows."""
    typed: list[str] = []
    for language, block in _FENCE.findall(text):
        if language == "text" and typed:
            yield Shown(page, typed[-1], tuple(block.splitlines()))
        typed = list(_lines(block)) if language in _TYPED else []


def _lines(block: str) -> Iterator[str]:
    for line in block.replace("\\\n", " ").splitlines():
        typed = re.sub(r"(^|\s)#.*$", "", line)
        yield from (" ".join(part.split()) for part in typed.split(" && ") if part.strip())


# Each is typed in a copy of a repository in which the smoke preset was run, in this order, by
# tests/e2e/test_commands.py: the command of the page, and what is typed where that differs.
RUN: Mapping[str, str] = {
    command: typed or command
    for command, typed in {
        "petct doctor": "",
        "petct params": "",
        "petct params split": "",
        "petct params split.guard_mm": "",
        "petct fetch --list": "",
        "petct key create": "",
        "petct key show": "",
        "petct cache": "",
        "petct lineage trace p-0199e4565b_c381a555_0003": "petct lineage trace {slice}",
        "petct lineage trace cmad-petct:auroc": "",
        "petct lineage trace cmad-petct:auroc --mermaid": "",
        "petct lineage trace cmad-petct --own-names": "",
        "petct lineage impact PHANTOM-0007": "",
        "petct lineage impact model.cmpt": "",
        "petct lineage diff HEAD~3": "",
        "petct lineage seal": "",
        "petct lineage verify --sealed seal.json": "",
        "petct audit-split splits_final.json": "",
        "petct audit-split train.csv val.csv test.csv": "",
        "petct audit-split path/to/folder --badge split.svg": (
            "petct audit-split data/raw/phantom --badge split.svg"
        ),
        "petct view STUDY_ID": "petct view {study}",
        "petct cache trim --gib 5": "",
        "petct cache trim --gib 0": "",
        "dvc stage list": "",
        "dvc metrics show": "",
        "petct preset cmad-table2": "",
        "petct preset paper-cmad-table2": "",
        "petct preset paper-cmad": "",
        "petct preset paper-qfae": "",
        "petct preset ablations": "",
        "petct preset baselines": "",
        "petct preset pictures": "",
        "petct preset cpu": "",
        "petct preset smoke": "",
        "petct lineage impact PHANTOM-0007 --withdraw --date 2026-11-22": "",
    }.items()
}
# Run by a test that follows the page, or that runs the same on smaller data.
ELSEWHERE: Mapping[str, str] = {
    "petct validate /path/to/dicom": "tests/e2e/test_first_run.py",
    "petct validate FOLDER": "tests/e2e/test_first_run.py",
    "petct add mine /path/to/dicom": "tests/e2e/test_first_run.py",
    "dvc exp run -S dataset=mine": "tests/e2e/test_first_run.py",
    "dvc exp run -S model.cmpt=4": "tests/e2e/test_first_run.py",
    "petct lineage verify": "tests/e2e/test_first_run.py",
    "petct new model my_idea": "tests/e2e/test_new_model.py",
    "dvc repro --dry": "tests/e2e/test_new_model.py",
    "petct lineage trace my_idea-petct:auroc": "tests/e2e/test_new_model.py",
    "dvc repro": "tests/e2e/test_pipeline.py",
    "dvc status": "tests/e2e/test_pipeline.py",
    "petct classes": "tests/unit/evaluation/test_classes.py",
    "petct card": "tests/func/audit/test_cards.py",
    "petct card cmad-petct": "tests/func/audit/test_cards.py",
    "petct models": "tests/unit/test_accounting.py",
    "petct models --markdown": "tests/unit/test_accounting.py",
    "petct leak honest leaking": "tests/func/audit/test_protocols.py",
    "petct leak HEAD leaking": "tests/func/audit/test_protocols.py",
    "petct audit-split splits_final.json --worth HEAD leaking": (
        "tests/func/audit/test_protocols.py"
    ),
    "petct folds EXP0 EXP1 EXP2 EXP3 EXP4": "tests/func/audit/test_protocols.py",
    "petct sweep cmad-petct model.cmpt": "tests/func/audit/test_sweep.py",
    "petct data-docs": "tests/unit/validation/test_data_docs.py",
    "petct lineage export --format rocrate": "tests/func/lineage/test_export.py",
    "petct lineage export --format prov": "tests/func/lineage/test_export.py",
    "petct power patients": "tests/unit/audit/test_power.py",  # the smoke preset tests two
    "petct power lesions": "tests/unit/audit/test_planted.py",
    "dvc plots show": "tests/func/pipeline/test_plots.py",
    "dvc plots diff": "tests/func/pipeline/test_plots.py",
    "python .dvc/plots/make_page.py": "tests/func/pipeline/test_plots.py",
    "python -m petct_uad.cli.presets": "tests/unit/test_presets.py",
    "make coverage": "tests/unit/test_habits.py",
    "make docs": "tests/unit/test_site.py",
    "dvc push": "tests/func/lineage/test_remotes.py",
    "dask scheduler --scheduler-file dask.json &": "tests/func/pipeline/test_cluster.py",
    "dask worker --scheduler-file dask.json --nthreads 1 --nworkers 2 &": (
        "tests/func/pipeline/test_cluster.py"
    ),
}
# Pages of which a test of their own runs, or queues, every fenced command.
FOLLOWED: Mapping[str, str] = {
    "docs/first_run.md": "tests/e2e/test_first_run.py",
    "docs/your_model.md": "tests/e2e/test_new_model.py",
    "docs/ablations.md": "tests/func/pipeline/test_ablations.py",
}
# Only parsed: by the beginning of the command, the reason.
PARSED_ONLY: Mapping[str, str] = {
    "make ": "each is what CI runs, or takes minutes to hours; its target is looked up",
    "pip install": "needs a network; the extra is looked up in pyproject.toml",
    "dvc exp run": "takes minutes to hours; that its params are taken is tested",
    "dvc queue": "takes hours",
    "dvc exp ": "asks for experiments that the page has just run",
    "dvc metrics diff": "asks for experiments that the page has just run",
    "dvc dag": "shows a pager",
    "dvc remote ": "of somebody's server; tests/func/lineage/test_remotes.py has its own",
    "dvc gc": "removes data of a person's own",
    "dvc remove": "removes data of a person's own",
    "rm -rf data/raw/mine": "removes data of a person's own",
    "git restore params.yaml": "git's own",
    "dvc repro ": "a part of what tests/e2e/test_pipeline.py rebuilds",
    "petct add ": "of data that are not here; tests/e2e/test_first_run.py adds a folder",
    "PETCT_EXECUTOR=dask": "a whole rebuild; tests/func/pipeline/test_cluster.py runs the executor",
    "petct validate data/raw/": "of data that are fetched",
    "dvc config ": "is a setting of a person's own disk",
    "petct fetch ": "needs a network; tests/func/cohorts/test_fetch.py has a server of its own",
}
