"""DEALRec's choice over the scores: a share of 1 keeps all, a smaller one keeps as many as it says."""

import numpy as np
import pytest

from recbench.models.selection.select_dealrec import SelectDealRecConfig, covering


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("coverage", [True, False])
def test_the_budget_is_met_exactly_and_nothing_comes_twice(share, coverage):
    score = np.random.default_rng(0).gamma(0.5, size=400)
    config = SelectDealRecConfig(coverage=coverage)
    chosen = covering(score, round(share * 400), config, np.random.default_rng(1))
    assert len(chosen) == len(set(chosen.tolist())) == round(share * 400)
    if share < 0.9:  # the hardest tenth is left out
        assert score[chosen].max() <= np.quantile(score, 0.91)
