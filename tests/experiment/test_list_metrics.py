"""``evaluation.metrics`` with the metrics of lists: a run has them, a finished run gets them without training, and seeds are compared."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from recbench.cli.compare import main as compare
from recbench.core.errors import UserError
from recbench.evaluation.lists.families import FAMILIES
from recbench.evaluation.lists.stability import LISTS_FILE, overlap, read_lists, stability
from recbench.experiment.run import run
from recbench.report.boards import boards_of
from recbench.report.collect import read_run
from recbench.report.tables import leaderboard

SMALL = ["model=sasrec", "training.max_epochs=1", "model.n_layers=1", "model.hidden_size=16"]
ASKED = f"evaluation.metrics=[{','.join(FAMILIES)}]"


@pytest.fixture(scope="module")
def seeds(run_config, tmp_path_factory):
    """Two seeds; the second was first made without the metrics."""
    runs_dir = tmp_path_factory.mktemp("runs")
    first = run(run_config(runs_dir, *SMALL, ASKED, "seed=1"))
    plain = run(run_config(runs_dir, *SMALL, "seed=2"))
    weights = plain.folder.weights.stat().st_mtime_ns
    again = run(run_config(runs_dir, *SMALL, ASKED, "seed=2"))
    assert again.folder.path == plain.folder.path
    assert again.folder.weights.stat().st_mtime_ns == weights
    assert plain.metrics.items() <= again.folder.read("metrics.json").items()
    return first.folder, again.folder


def test_a_run_has_them_and_a_finished_one_gets_them(seeds):
    for folder in seeds:
        metrics = folder.read("metrics.json")
        assert set(metrics["list_metrics"]) == set(FAMILIES)
        for name in ("ild_category", "ild_text", "calibration_category", "calibration_popularity", "arp", "aplt"):
            values = pl.read_parquet(folder.ranks)[f"{name}@10"].to_numpy()
            assert metrics[f"test/{name}@10"] == pytest.approx(np.nanmean(values))
        assert 0 < metrics["test/ild_text@10"] <= 1.2
        assert metrics["test/serendipity@10"] <= metrics["test/hr@10"] / 10
        assert metrics["test/disparity_activity@10"] >= 0
        assert metrics["test/arp@10"] == pytest.approx(metrics["test/mean_popularity@10"])  # every list is full


def test_seeds_are_compared_by_their_lists(seeds, capsys):
    paths = [folder.path for folder in seeds]
    (_, a), (_, b) = (read_lists(path / LISTS_FILE) for path in paths)
    slow = np.mean([len(set(x[:10]) & set(y[:10])) / 10 for x, y in zip(a.tolist(), b.tolist(), strict=True)])
    assert stability(paths, 10) == pytest.approx(slow)
    assert 0 < slow < 1
    assert overlap(a, a, 10).min() == 1.0
    assert stability(paths[:1], 10) is None
    assert stability(paths, 500) is None
    assert compare([*map(str, paths), "--resamples", "200"]) == 0
    out = capsys.readouterr().out
    assert "stability@10" in out
    assert f"{slow:.4f}" in out
    assert compare([*map(str, paths), "--resamples", "200", "--metric", "calibration_category@10"]) == 0
    board = boards_of([read_run(path) for path in paths])[0]
    headings = [heading.text for heading in leaderboard(board).headings]
    assert {"ild_text@10", "tail_recall@10", "stability@10"} <= set(headings)


def test_what_has_nothing_to_read_is_refused_before_training(run_config, tmp_path, make_data):
    from recbench.experiment.list_figures import check_list_metrics

    config = run_config(tmp_path, "model=popularity", "evaluation.metrics=[ild]")
    with pytest.raises(UserError, match="leave ild out"):
        check_list_metrics(config, make_data([[1, 2, 3]] * 4, n_items=5))
    with pytest.raises(UserError, match="did you mean 'ild'"):
        run_config(tmp_path, "model=popularity", "evaluation.metrics=[idl]")
