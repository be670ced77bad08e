"""``recbench runs``: what is listed and shown, and that nothing goes which should stay."""

from __future__ import annotations

import json
import os
import threading

import pytest
from filelock import FileLock

from recbench.cli.runs import main

TEACHER = {"dependencies": {"teacher": "sasrec-teacher"}}


@pytest.fixture
def said(capsys, monkeypatch, tmp_path):
    """said("list") -> (status, out, err), in the folder that holds ``runs``."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        status = main([str(word) for word in words])
        return status, *capsys.readouterr()

    return call


@pytest.fixture
def family(folders):
    """A student made with a teacher, which was made with an item table; and a run that stands alone."""
    folders.add("sasrec-table", 0.2, config={"model": {"hidden_size": 32}})
    folders.add("sasrec-teacher", 0.5, dependencies={"item_table": "sasrec-table"})
    folders.add("slmrec-student", 0.4, seed=2, config={"model": {"name": "slmrec"}}, **TEACHER)
    folders.add("markov-alone", 0.1, config={"model": {"name": "markov"}})
    return folders


def one_line(err):
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    return line


def keys_in(out):
    return [
        word for line in out.splitlines() for word in line.strip("|").split()[:1] if "-" in word and "+" not in word
    ]


def test_list_shows_every_run_with_its_figure(said, family):
    family.broken("sasrec-broken", "failed", "ValueError: no")
    status, out, _ = said("list")
    assert status == 0
    assert set(keys_in(out)) == {"sasrec-table", "sasrec-teacher", "slmrec-student", "markov-alone", "sasrec-broken"}
    value = json.loads((family.path / "slmrec-student" / "metrics.json").read_text())["test/ndcg@10"]
    (row,) = [line for line in out.splitlines() if "slmrec-student" in line]
    for word in (f"{value:.4f}", "synthetic", "leave_one_out-full-mask-v1", "finished", "2023-11-14"):
        assert word in row
    assert "| 2 |" in " ".join(row.replace("|", " | ").split())


def test_list_filters_sorts_and_gives_reasons(said, family):
    family.broken("sasrec-broken", "failed", "ValueError: no")
    assert set(keys_in(said("list", "model=sasrec", "model.hidden_size=32")[1])) == {"sasrec-table"}
    by_metric = keys_in(said("list", "--sort", "metric")[1])
    assert by_metric == ["sasrec-teacher", "slmrec-student", "sasrec-table", "markov-alone", "sasrec-broken"]
    assert keys_in(said("list", "--sort", "key")[1]) == sorted(by_metric)
    status, out, _ = said("list", "--failed")
    assert (status, keys_in(out)) == (0, ["sasrec-broken"])
    assert "ValueError: no" in out
    assert "all 1 runs are finished" in said("list", "--failed", "model=markov")[1]


def test_a_run_whose_process_is_gone_is_called_killed(said, family):
    family.broken("sasrec-dead", "running")
    busy = family.broken("sasrec-busy", "running")
    (family.path / ".locks").mkdir(exist_ok=True)
    with FileLock(family.path / ".locks" / f"{busy.name}.lock"):
        states = {}
        for line in said("list", "--failed")[1].splitlines():
            for key in ("sasrec-dead", "sasrec-busy"):
                if key in line:
                    states[key] = "killed" if "killed" in line else "running"
    assert states == {"sasrec-dead": "killed", "sasrec-busy": "running"}


def test_show_tells_choices_figures_and_relatives(said, family):
    (family.path / "sasrec-teacher" / "made_for.json").write_text('{"key": "slmrec-student"}')
    status, out, _ = said("show", "sasrec-teacher")
    assert status == 0
    assert "made with: item_table sasrec-table" in out
    assert "needed by: slmrec-student" in out
    assert "made for slmrec-student" in out
    assert "training.max_epochs | 10" in " ".join(out.split())  # the default is 100
    assert "hidden_size" not in out  # 64 is the default
    assert "ranks.parquet" in out
    assert "test/ndcg@10" in out
    assert "test/tied" not in out
    assert "test/tied" in said("show", "--all", family.path / "sasrec-teacher")[1]
    assert "markov-alone" in said("show", "mark")[1]


def test_show_says_why_a_run_gave_no_result(said, family):
    family.broken("sasrec-broken", "failed", "ValueError: no")
    assert "failed, ValueError: no" in said("show", "sasrec-broken")[1]


def test_rm_refuses_what_others_need(said, family):
    status, _, err = said("rm", "sasrec-teacher", "--yes")
    assert status == 2
    assert "slmrec-student was made with sasrec-teacher" in one_line(err)
    assert (family.path / "sasrec-teacher").is_dir()
    assert said("rm", "sasrec-teacher", "--yes", "--force")[0] == 0
    assert not (family.path / "sasrec-teacher").exists()
    assert "(removed)" in said("show", "slmrec-student")[1]


def test_rm_takes_along_only_what_nobody_else_needs(said, family):
    family.add("slmrec-other", 0.3, dependencies={"item_table": "sasrec-table"}, config={"model": {"name": "slmrec"}})
    assert said("rm", "slmrec-student", "--with-needed", "--yes")[0] == 0
    left = {path.name for path in family.path.iterdir() if not path.name.startswith(".")}
    assert left == {"sasrec-table", "slmrec-other", "markov-alone"}
    assert said("rm", "slmrec-other", "--with-needed", "--yes")[0] == 0
    assert {path.name for path in family.path.iterdir() if not path.name.startswith(".")} == {"markov-alone"}


def test_rm_asks_first(said, family, monkeypatch):
    status, _, err = said("rm", "markov-alone")
    assert status == 2
    assert "--yes" in one_line(err)
    for answer, there in (("n\n", True), ("\n", True), ("y\n", False)):
        monkeypatch.setattr("sys.stdin", Typed(answer))
        assert said("rm", "markov-alone")[0] == 0
        assert (family.path / "markov-alone").exists() is there


class Typed:
    """A terminal at which somebody types one line."""

    def __init__(self, line):
        self.line = line

    def isatty(self):
        return True

    def readline(self):
        return self.line


def test_rm_never_leaves_the_folder(said, family, tmp_path):
    outside = tmp_path / "elsewhere" / "sasrec-precious"
    outside.mkdir(parents=True)
    (outside / "status.json").write_text('{"state": "finished"}')
    (family.path / "sasrec-link").symlink_to(outside)
    for word in (
        outside,
        "../elsewhere/sasrec-precious",
        "runs/../elsewhere/sasrec-precious",
        ".",
        "..",
        "runs/sasrec-link",
    ):
        status, _, err = said("rm", word, "--yes", "--force")
        assert status == 2, word
        one_line(err)
    assert said("rm", "sasrec-link", "--yes")[0] == 0  # by its name: the link goes, what it points to stays
    assert (outside / "status.json").is_file()
    assert not (family.path / "sasrec-link").exists()


def test_rm_leaves_a_run_at_work_alone(said, family):
    (family.path / ".locks").mkdir(exist_ok=True)
    with FileLock(family.path / ".locks" / "markov-alone.lock"):
        status, _, err = said("rm", "markov-alone", "--yes")
    assert status == 2
    assert "works on markov-alone" in one_line(err)
    assert (family.path / "markov-alone" / "metrics.json").is_file()


def test_gc_only_lists_until_it_is_told(said, family, tmp_path):
    family.broken("sasrec-broken", "failed", "ValueError: no")
    before = sorted(os.listdir(family.path))
    status, out, _ = said("gc", f"cache_dir={tmp_path}/cache")
    assert status == 0
    assert "sasrec-broken" in out
    assert "--yes" in out
    assert [name for name in sorted(os.listdir(family.path)) if name != ".locks"] == before
    assert said("gc", "--yes", f"cache_dir={tmp_path}/cache")[0] == 0
    assert not (family.path / "sasrec-broken").exists()
    assert "nothing to clear" in said("gc", f"cache_dir={tmp_path}/cache")[1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["lst"], "did you mean 'list'"),
        (["list", "modl=sasrec"], "did you mean 'model'"),
        (["list", "sasrec"], "key=value"),
        (["list", "--sort", "sise"], "size"),
        (["list", "runs_dir=nowhere"], "nowhere"),
        (["show"], "RUN"),
        (["show", "sasrec-x"], "no run 'sasrec-x'"),
        (["show", "s"], "beginning of 3 keys"),
        (["rm", "runs_dir=runs"], "runs"),
        (["gc", "dat"], "did you mean 'data'"),
        (["gc", "runs_dir="], "runs_dir"),
    ],
)
def test_wrong_use_is_one_line(said, family, words, expected):
    status, out, err = said(*words)
    assert (status, out) == (2, "")
    assert expected in one_line(err)


def test_help_names_every_word(said):
    assert said("--help")[0] == 0
    status, out, _ = said()
    assert status == 2
    assert all(f"recbench runs {word}" in out for word in ("list", "show", "rm", "gc"))


def test_a_process_that_waits_for_a_run_that_is_removed_makes_it_again(tmp_path):
    """Its folder is there again when it gets the lock."""
    from recbench.core.run_folder import lock_if_free, locked, open_folder

    folder = open_folder(tmp_path, "sasrec-x")
    entered, waiting = threading.Event(), threading.Event()

    def wait():
        waiting.set()
        with locked(folder):
            folder.set_state("running")
            entered.set()

    with lock_if_free(folder) as free:
        assert free
        thread = threading.Thread(target=wait)
        thread.start()
        waiting.wait(5)
        folder.path.rmdir()
    thread.join(5)
    assert entered.is_set()
    assert folder.state == "running"
