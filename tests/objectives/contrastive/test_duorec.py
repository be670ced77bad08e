"""DuoRec compares a second reading of a history with another history that has its target."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbench.objectives.contrastive.base import build_auxiliaries, representations
from recbench.objectives.contrastive.groups import groups_of_like_length
from recbench.objectives.contrastive.info_nce import info_nce


@pytest.fixture
def duorec(build, dataset):
    def make(**keys):
        model = build(auxiliary=["duorec"], **keys)
        return model, build_auxiliaries(model, dataset)[0]

    return make


def test_partners_share_the_target_of_the_window(duorec, batch):
    _, auxiliary = duorec()
    auxiliary.draw(batch)
    last = [group.targets[torch.arange(len(group)), group.lengths - 1] for group in auxiliary.others[0]]
    assert auxiliary.own[0][0] is batch
    assert torch.equal(torch.cat(last)[auxiliary.others[1]], batch.targets[torch.arange(len(batch)), batch.lengths - 1])
    lengths = torch.cat([group.lengths for group in auxiliary.others[0]])[auxiliary.others[1]]
    assert not torch.equal(lengths, batch.lengths)


def test_the_term_is_info_nce_of_a_history_and_its_partner(duorec, batch):
    model, auxiliary = duorec()
    model.config.duorec.temperature = 2.0
    torch.manual_seed(8)
    auxiliary.draw(batch)
    torch.manual_seed(8)
    partners = auxiliary.same_target.histories(auxiliary.same_target.draw(batch.windows))
    assert len(auxiliary.others[0]) > 1
    own, other = representations(model, batch), representations(model, partners)
    torch.testing.assert_close(auxiliary.terms(model)["duorec"], 0.1 * info_nce(own, other, 2.0))


def test_partners_are_drawn_anew_at_every_step(duorec, batch):
    _, auxiliary = duorec()
    drawn = []
    for _ in range(4):
        auxiliary.draw(batch)
        drawn.append(tuple(tuple(group.lengths.tolist()) for group in auxiliary.others[0]))
    assert len(set(drawn)) > 1


@given(st.lists(st.integers(1, 300), min_size=1, max_size=40))
def test_groups_hold_every_row_once_and_none_four_times_as_long_as_another(lengths):
    lengths = np.array(lengths)
    groups = groups_of_like_length(lengths)
    assert sorted(np.concatenate(groups)) == list(range(len(lengths)))
    assert all(lengths[rows].max() <= 4 * lengths[rows].min() for rows in groups)
    assert len(groups) <= 5


def test_the_own_history_is_read_again_under_another_dropout(duorec, batch):
    model, auxiliary = duorec(dropout=0.5)
    model.train()
    auxiliary.draw(batch)
    values = {auxiliary.terms(model)["duorec"].item() for _ in range(3)}
    assert len(values) == 3
