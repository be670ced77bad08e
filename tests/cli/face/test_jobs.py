"""``recbench.run`` and ``recbench.sweep``: the runs of the command line, without its tables."""

from __future__ import annotations

import json
import logging

import pytest

import recbench


def test_a_run_is_that_of_the_command_line(trained, words, small, cli, tmp_path, capsys):
    assert trained.reused is False
    assert trained.metrics == json.loads((trained.folder / "metrics.json").read_text())
    finished = cli(*small, *words, cwd=tmp_path)
    assert finished.status == 0
    assert f"{trained.key} is there already" in finished.err
    assert recbench.run(small, words).reused is True
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("call", [recbench.run, recbench.sweep])
@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ("model=sasrek", "did you mean 'sasrec'"),
        ("sed=3", "did you mean 'seed'"),
        ("model=3", "must be a string"),
        ("training.max_epochs=many", "training.max_epochs"),
        ("model", "key=value"),
        ("-m", "recbench.sweep"),
        ("--cfg", "option of the command line"),
        ("+experiment=mini", "run_study"),
    ],
)
def test_a_mistake_is_a_user_error(call, wrong, expected, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sizes = [word for word in tiny if word.startswith("data")]
    with pytest.raises(recbench.UserError) as raised:
        call(*sizes, wrong, "tracking=off")
    assert expected in str(raised.value)
    assert "\n" not in str(raised.value)


def test_values_for_several_runs_are_no_single_run(words):
    with pytest.raises(recbench.UserError, match="seed=1,2"):
        recbench.run("model=popularity", "seed=1,2", words)


def test_processes_of_torchrun_are_sent_to_the_command_line(words, monkeypatch):
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(recbench.UserError, match="command line"):
        recbench.run("model=popularity", words)


def test_a_sweep_is_a_list_of_results(counted):
    assert len(counted) == 4
    assert [result.config.model.name for result in counted] == ["popularity", "popularity", "markov", "markov"]
    assert isinstance(counted, recbench.Sweep)
    assert counted[0].folder == counted[1].folder  # popularity knows no seed
    assert [result.key for result in counted[2:]] == [counted[-2].key, counted[-1].key]
    assert counted.failures == ()
    assert counted.frame()["key"].to_list() == [counted[0].key, counted[2].key]
    assert "Sweep of 4 jobs, 0 of them failed" in repr(counted)
    assert "<table" in counted._repr_html_()


def test_a_failed_job_is_named_and_the_others_finish(words, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    found = recbench.sweep("model=markov,ease", "evaluation.cutoffs=[10],[0]", words)
    assert [result.config.model.name for result in found] == ["markov", "ease"]
    assert [failure.words[0] for failure in found.failures] == ["model=markov", "model=ease"]
    assert all("evaluation.cutoffs" in failure.reason for failure in found.failures)
    assert "failed: model=markov" in repr(found)
    assert "failed" in found._repr_html_()
    assert capsys.readouterr().out == ""


def test_a_sweep_leaves_logging_to_the_caller(words, capsys):
    """Hydra would print its own lines on stdout, from a handler that it puts in the place of the caller's."""
    root = logging.getLogger()
    kept, level, seen = list(root.handlers), root.level, []

    class Own(logging.Handler):
        def emit(self, record):
            seen.append(record.getMessage())

    root.handlers[:] = [own := Own()]
    root.setLevel(logging.WARNING)  # the usual one, whatever an earlier test left
    try:
        recbench.sweep("model=popularity,markov", words)
        assert root.handlers == [own]
    finally:
        root.handlers[:] = kept
        root.setLevel(level)
    assert not any(line.startswith("Launching") for line in seen)  # below the level of the root logger
    assert capsys.readouterr() == ("", "")


def test_the_folder_of_a_sweep_may_have_any_name(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    odd = tmp_path / "it's a, {folder}"
    others = [word for word in words if not word.startswith("runs_dir=")]
    found = recbench.sweep("model=popularity", others, f'runs_dir="{odd}"')
    assert found[0].folder.parent == odd


def test_a_caller_that_uses_hydra_itself_keeps_its_own(words):
    from hydra import compose, initialize
    from hydra.core.global_hydra import GlobalHydra

    with initialize(version_base="1.3", config_path=None):
        mine = GlobalHydra.instance().hydra
        recbench.run("model=popularity", words)
        recbench.sweep("model=popularity", words)
        assert GlobalHydra.instance().hydra is mine
        assert compose(overrides=["+x=1"]).x == 1
