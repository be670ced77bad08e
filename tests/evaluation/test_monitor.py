"""Names of the metric that stops a training: what is known, and how a wrong one is answered."""

from __future__ import annotations

import pytest

from recbench.core.errors import UserError
from recbench.evaluation.monitor import check_monitor


@pytest.mark.parametrize("name", ["hr@1", "ndcg@10", "mrr@3", "mrr", "recall@50", "precision@7"])
def test_ours_are_known(name):
    check_monitor(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ngcd@10", "unknown evaluation.monitor=ngcd@10; did you mean 'ndcg@10'?"),
        ("NDCG@20", "did you mean 'ndcg@20'?"),
        ("recal@5", "did you mean 'recall@5'?"),
        ("ndcg", "evaluation.monitor=ndcg needs a cutoff of 1 or more behind an @, as in evaluation.monitor=ndcg@10"),
        ("hr@0", "evaluation.monitor=hr@0 needs a cutoff"),
        ("hr@ten", "evaluation.monitor=hr@ten needs a cutoff"),
        ("hr@-1", "needs a cutoff"),
        ("loss", "known: hr@10, ndcg@10, mrr@10, recall@10, precision@10, mrr"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(name, message):
    with pytest.raises(UserError) as caught:
        check_monitor(name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
