import json

import numpy as np
from recbench_tail import tail_hit, tail_share

from recbench.cli.main import main
from recbench.models import RankedLists

DATA = [
    "data=synthetic",
    "data.n_users=60",
    "data.n_items=60",
    "data.mean_length=12",
    "tracking=off",
    "model=popularity",
]


def test_by_hand():
    """Item 1 is the head of five items. Case 0 has its target 3 at rank 2, case 1 its target 1 at rank 1."""
    ranked = RankedLists(
        rank=np.array([2.0, 1.0]),
        case=np.array([0, 1]),
        target=np.array([3, 1]),
        history_length=np.array([4, 4]),
        lists=np.array([[1, 3], [1, 2]]),
        training_counts=np.array([0, 9, 1, 1, 1, 1]),
        n_ranked=5,
    )
    assert tail_hit(ranked, 1).tolist() == [0, 0]
    assert tail_hit(ranked, 2).tolist() == [1, 0]
    assert tail_share(ranked, 2).tolist() == [0.5, 0.5]


def test_a_finished_run_gets_the_metric_and_keeps_its_key(tmp_path):
    words = [*DATA, f"runs_dir={tmp_path}/runs", f"cache_dir={tmp_path}/cache"]
    assert main(words) == 0
    (path,) = (tmp_path / "runs").glob("*/metrics.json")
    before = json.loads(path.read_text())
    assert main([*words, "evaluation.metrics=[tail_hit,tail_share]"]) == 0
    (path,) = (tmp_path / "runs").glob("*/metrics.json")
    after = json.loads(path.read_text())
    assert {name: after[name] for name in before} == before
    added = {name.partition("@")[0] for name in after.keys() - before.keys()}
    assert added == {"test/tail_hit", "test/tail_share"}
    assert 0 <= after["test/tail_hit@10"] <= after["test/hr@10"]
