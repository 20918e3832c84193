"""A stage from its first line on the terminal to its lineage.

Once this is imported, the process ends with the DVC that runs it, however that ends.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import current_process
from pathlib import Path

from petct_uad.core.console import fail_cleanly, stage
from petct_uad.core.machine import share_cores
from petct_uad.core.params.reading import ParamsFile
from petct_uad.core.provenance.record import Activity, Derivation, write_lineage
from petct_uad.core.store.study_store import StudyStore
from petct_uad.core.survival import end_with_the_caller

# A stage file imports this module before any that loads torch, which may take long.
share_cores()
end_with_the_caller()
# What is imported stays to the end. To look through it for garbage over and over takes a tenth of
# the time of a stage that finds its studies in the store.
if current_process().name == "MainProcess":  # a worker imports the file of the stage, too
    gc.disable()


@dataclass(frozen=True)
class StageRun:
    """One run of a stage; its lineage follows from what it read and from its imports.

    Attributes:
        name: as dvc.yaml has it, with the model that it works on, if any.
        entry: the stage file, below the repository's root.
        params: what is read through it is in the lineage.
    """

    name: str
    entry: Path
    params: ParamsFile

    def store(self, *code: Path) -> StudyStore | None:
        """Where this stage keeps what it computes of single studies; None where that is off.

        Args:
            code: files, or folders of them, from whose imports the code follows that computes; by
                default the stage's.

        Raises:
            SettingError: the machine's settings of the store cannot be taken.
        """
        return StudyStore.of_stage(self.entry.stem, *(code or (self.entry,)))

    def record(
        self,
        folder: Path,
        derivations: Iterable[Derivation],
        *,
        loaded: tuple[Path, ...] = (),
        name: str = "",
    ) -> None:
        """Write the lineage of this run into a ``lineage`` folder beside its outputs.

        Args:
            folder: where the outputs are.
            derivations: what each of them was made from.
            loaded: files or folders of the library that the run loads by name, such as a model's.
            name: of the activity, where one run of a stage writes several; by default the stage's.
        """
        activity = Activity(name or self.name, self.params.asked, (self.entry, *loaded))
        write_lineage(folder / "lineage", activity, derivations)


@contextmanager
def run_stage(name: str, entry: str) -> Iterator[StageRun]:
    """Read params.yaml, say what starts and what it took; fail with a message, not a traceback.

    Args:
        name: of the stage.
        entry: ``__file__`` of the stage file.
    """
    gc.freeze()
    gc.enable()
    with fail_cleanly(), stage(name):
        file = Path(entry).relative_to(Path.cwd())
        yield StageRun(name, file, ParamsFile.read())
