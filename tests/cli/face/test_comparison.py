"""``recbench.compare_runs``: what ``recbench compare`` says, as values."""

from __future__ import annotations

import pytest

import recbench

#: What the stored configs of the fixture lack.
CACHE = {"cache_dir": "cache"}


def test_it_says_what_the_command_says(folders, capsys):
    from recbench.cli.compare import main

    runs = [folders.add(f"sasrec-{seed}", 0.6, seed=seed, config=CACHE) for seed in (1, 2)]
    runs.append(folders.add("sasrec-wide", 0.1, config={**CACHE, "model": {"hidden_size": 128}}))
    found = recbench.compare_runs(runs, "mrr", "sasrec hidden_size=128", resamples=500)
    frame = found.frame()
    assert frame["name"].to_list() == ["sasrec", "sasrec hidden_size=128"]
    assert frame["n_seeds"].to_list() == [2, 1]
    assert frame["group"].to_list() == ["a", "b"]
    assert (frame["low"] < frame["mean"]).all()
    assert frame["relative"].to_list()[1] is None
    assert (found.reference, found.metric) == ("sasrec hidden_size=128", "mrr")
    assert (
        main([*map(str, runs), "--metric", "mrr", "--reference", "sasrec hidden_size=128", "--resamples", "500"]) == 0
    )
    assert capsys.readouterr().out.split() == str(found).split()


def test_results_sweeps_and_folders_go_in(counted):
    whole = recbench.compare_runs(counted, resamples=200)
    assert whole.frame()["name"].to_list() == ["markov", "popularity"]
    parts = [counted[0], counted[2].folder, str(counted[2].folder)]
    against = recbench.compare_runs(parts, reference=counted[0], resamples=200)
    assert against.reference == "popularity"
    assert against.frame()["mean"].to_list() == whole.frame()["mean"].to_list()
    assert whole.frame().schema == against.frame().schema
    assert against.frame()["mean"][0] == pytest.approx(counted[2].metrics["test/ndcg@10"])


def test_the_plot_shows_every_row_with_its_interval(counted, tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    found = recbench.compare_runs(counted, resamples=200)
    axes = found.plot()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["markov", "popularity"]
    assert "ndcg@10" in axes.get_xlabel()
    left, right = axes.get_xlim()
    assert left < found.verdicts[-1].low
    assert right > found.verdicts[0].high
    axes.figure.savefig(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000
    assert found.plot(axes) is axes


def test_a_mistake_is_a_user_error(folders):
    one = folders.add("sasrec-1", config=CACHE)
    other = folders.add("sasrec-2", protocol="temporal-x", seed=2, config=CACHE)
    for runs, options, expected in (
        ([], {}, "nothing to compare"),
        (str(one), {}, "takes a list"),
        ([one], {"metric": "nonsense"}, "nonsense"),
        ([one], {"reference": "bert4rec"}, "unknown reference"),
        ([one], {"seed": -1}, "negative"),
        ([one, other], {}, "never share a table"),
    ):
        with pytest.raises(recbench.UserError, match=expected):
            recbench.compare_runs(runs, **options)
