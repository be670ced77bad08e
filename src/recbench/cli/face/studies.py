"""A study from Python: its missing runs are made, its results written and returned."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recbench.cli.face.words import Words, messages, own_hydra, words_of
from recbench.core.errors import UserError

if TYPE_CHECKING:
    import polars as pl


def run_study(name: Path | str, *words: Words, jobs: int | None = None, train: bool = True) -> StudyResult:
    """Make the runs that a study lacks, then write its ``results.csv`` and the table of its README, as ``recbench study`` does.

        found = recbench.run_study("sasrec_beauty", "data.raw_dir=data", jobs=2)
        found.frame()

    name: a folder of ``experiments/``, or the path of a ``study.yaml``. words: keys for every run. jobs: runs at a time, each a process of
    its own (None: one a core). train: False only reads what is there. The table is printed. Raises UserError before anything is trained
    where the study or a word is wrong.
    """
    from recbench.config.schemas import conf_dir
    from recbench.study import run as story
    from recbench.study.definition import find_study, load_study
    from recbench.study.values import WORD

    given = words_of(words)
    for word in given:
        if not WORD.fullmatch(word):
            raise UserError(f"cannot read '{word}'; give key=value, as in \"data.raw_dir=FOLDER\"")
    size = (os.cpu_count() or 1) if jobs is None else jobs
    if size < 1:
        raise UserError(f"jobs must be at least 1, not {size}")
    study = load_study(find_study(str(name), Path.cwd(), conf_dir().parent))
    with messages(), own_hydra():
        status = story.run_study(str(name), given, size, table_only=not train)
    return StudyResult(study.name, study.folder, complete=status == 0)


@dataclass(frozen=True)
class StudyResult:
    """folder: of the study; complete: False if a run failed, which the messages name (always True where nothing was trained)."""

    name: str
    folder: Path
    complete: bool

    def frame(self) -> pl.DataFrame:
        """``results.csv``: one row a run, with its row of the study, its phase (``search`` or ``final``), its seed and its figures."""
        import polars as pl

        return pl.read_csv(self.folder / "results.csv", infer_schema_length=None)
