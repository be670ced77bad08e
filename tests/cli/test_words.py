"""``+experiment=NAME`` on the command line, and the table by itself: the same machinery as the study command."""

from __future__ import annotations

import pytest

from recbench.cli.words import asked_studies
from recbench.core.errors import UserError


def test_what_is_asked_becomes_arguments_of_the_study_command():
    assert asked_studies(["model=sasrec"]) is None
    assert asked_studies(["+experiment=a", "tracking=off"]) == [["a", "tracking=off"]]
    assert asked_studies(["-m", "+experiment=a,b", "hydra.launcher.n_jobs=2"]) == [["a", "--jobs=2"], ["b", "--jobs=2"]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["+experiment=a,b"], "put -m"),
        (["--cfg", "+experiment=a"], "--cfg does not go with"),
        (["-m", "+experiment=a", "seed=1,2"], "rows and seeds stand in its study.yaml"),
    ],
)
def test_what_fits_no_study_is_told(words, message):
    with pytest.raises(UserError, match=message):
        asked_studies(words)


def test_a_study_by_the_main_command_and_its_table_by_the_report(study, cli, tiny):
    study.write(base=tiny, rows={"one": ["model=popularity"], "two": ["model=markov"]}, columns=["ndcg@10"])
    finished = cli("+experiment=mini", "hydra.launcher.n_jobs=1", cwd=study.path.parents[1])
    assert finished.status == 0, finished.err
    assert "2 of 2 runs finished" in finished.err
    assert "| one | " in finished.out
    results = study.path / "results.csv"
    before = results.read_text()
    results.unlink()
    status, out = report("mini")
    assert (status, out) == (0, finished.out)
    assert results.read_text() == before


def report(*words):
    import contextlib
    import io
    import signal

    from recbench.cli.report import main

    handler, out = signal.getsignal(signal.SIGTERM), io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            return main(list(words)), out.getvalue()
    finally:
        signal.signal(signal.SIGTERM, handler)


def test_an_unknown_study_is_one_line(cli, tmp_path):
    finished = cli("+experiment=slmrec_dept", cwd=tmp_path)
    assert finished.status == 2
    assert "did you mean 'slmrec_depth'" in finished.err.splitlines()[-1]
