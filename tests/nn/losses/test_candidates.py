"""The softmax among given negatives: against the plain formula, and the cases in which a loss of 0 would hide something."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from recbench.core.errors import UserError
from recbench.nn.losses.candidates import candidate_softmax


@pytest.fixture
def vectors():
    torch.manual_seed(0)
    return torch.randn(5, 4), torch.randn(5, 4), torch.randn(3, 4)


def test_it_is_the_cross_entropy_of_the_target_among_its_negatives(vectors):
    queries, positives, negatives = vectors
    for own in (negatives, negatives.expand(5, -1, -1)):
        logits = torch.cat([(queries * positives).sum(1, keepdim=True), queries @ negatives.T], 1)
        expected = F.cross_entropy(logits, torch.zeros(5, dtype=torch.int64), reduction="none")
        torch.testing.assert_close(candidate_softmax(queries, positives, own), expected)
    scaled = [F.normalize(x, dim=-1) for x in vectors]
    torch.testing.assert_close(
        candidate_softmax(*vectors, scale=7.0, cosine=True), candidate_softmax(7.0 * scaled[0], *scaled[1:])
    )


def test_a_copy_of_the_target_leaves_the_sum():
    unit = torch.eye(2)
    s = torch.tensor(3.0)
    # The query is the target; one negative is its copy, the other at a right angle to it.
    loss = candidate_softmax(unit[:1], unit[:1], unit, scale=s, cosine=True, drop_similar=0.99)
    assert loss.item() == pytest.approx(-math.log(math.exp(3) / (math.exp(3) + 1)), abs=1e-6)


def test_vectors_that_have_collapsed_into_one_are_said_to_have():
    same = torch.ones(4, 3)
    with pytest.raises(UserError, match=r"have collapsed into one.*model.tower"):
        candidate_softmax(same, same, same, cosine=True, drop_similar=0.99)
    # One position without negatives is no collapse.
    rows = torch.eye(3)
    losses = candidate_softmax(rows, rows, torch.eye(3)[:1], cosine=True, drop_similar=0.99)
    assert losses[0] == 0
    assert (losses[1:] > 0).all()


def test_negatives_may_be_left_out_and_corrected_for_how_they_were_drawn(vectors):
    queries, positives, negatives = vectors
    taken = torch.zeros(5, 3, dtype=torch.bool)
    taken[:, 0] = True
    torch.testing.assert_close(
        candidate_softmax(*vectors, taken=taken), candidate_softmax(queries, positives, negatives[1:])
    )
    logq = torch.tensor([0.5, 0.0, -0.5])
    logits = torch.cat([(queries * positives).sum(1, keepdim=True), queries @ negatives.T - logq], 1)
    expected = F.cross_entropy(logits, torch.zeros(5, dtype=torch.int64), reduction="none")
    torch.testing.assert_close(candidate_softmax(*vectors, logq=logq), expected)
