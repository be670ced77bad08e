"""Losses against torch's own functions and against their formulas written out."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from recbench.core.errors import UserError
from recbench.nn.losses import catalogue
from recbench.nn.losses.catalogue import LOSSES, CatalogueLoss, LossConfig, full_softmax

N_ITEMS, WIDTH, POSITIONS = 50, 12, 33


@pytest.fixture
def problem():
    """(hidden [N, D], table [V, D], targets [N]) in float64, with scores spread over several units."""
    generator = torch.Generator().manual_seed(7)
    hidden = torch.randn(POSITIONS, WIDTH, generator=generator, dtype=torch.float64)
    table = torch.randn(N_ITEMS + 1, WIDTH, generator=generator, dtype=torch.float64)
    targets = torch.randint(1, N_ITEMS + 1, (POSITIONS,), generator=generator)
    return hidden, table, targets


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows_at_once", [1, 7, POSITIONS, 1000])
def test_full_softmax_equals_torch_in_value_and_gradients(
    problem, monkeypatch, dtype, rows_at_once, our_softmax, exact_softmax
):
    monkeypatch.setattr(catalogue, "CHUNK_VALUES", rows_at_once * (N_ITEMS + 1))
    hidden, table, targets = problem
    found = our_softmax(hidden.to(dtype), table.to(dtype), targets)
    for mine, exact in zip(found, exact_softmax(hidden, table, targets), strict=True):
        torch.testing.assert_close(mine.double(), exact, atol=2e-6, rtol=2e-5)
    assert found[1].dtype == found[2].dtype == dtype


def test_a_catalogue_wider_than_a_chunk_is_worked_on_row_by_row(problem, monkeypatch, our_softmax, exact_softmax):
    monkeypatch.setattr(catalogue, "CHUNK_VALUES", 10)
    hidden, table, targets = problem
    for mine, exact in zip(our_softmax(hidden.float(), table.float(), targets), exact_softmax(*problem), strict=True):
        torch.testing.assert_close(mine.double(), exact, atol=2e-6, rtol=2e-5)


def test_full_softmax_in_bfloat16_stays_within_its_rounding(problem, monkeypatch, our_softmax, exact_softmax):
    monkeypatch.setattr(catalogue, "CHUNK_VALUES", 5 * (N_ITEMS + 1))
    hidden, table, targets = problem
    loss, by_hidden, by_table = our_softmax(hidden.float() / 4, table.float() / 4, targets, bfloat16=True)
    exact = exact_softmax(hidden / 4, table / 4, targets)
    assert loss.item() == pytest.approx(exact[0].item(), abs=0.01)
    for mine, true in ((by_hidden, exact[1]), (by_table, exact[2])):
        assert mine.dtype == torch.float32
        assert (mine.double() - true).norm() < 0.02 * true.norm()


def test_the_gradient_scales_with_what_comes_after(problem):
    hidden, table, targets = (part.float() if part.is_floating_point() else part for part in problem)
    once, thrice = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    full_softmax(once, table, targets).backward()
    (3 * full_softmax(thrice, table, targets)).backward()
    torch.testing.assert_close(thrice.grad, 3 * once.grad)


def test_the_pad_takes_no_part(problem, our_softmax):
    hidden, table, targets = (part.float() if part.is_floating_point() else part for part in problem)
    attractive = table.clone()
    attractive[0] = 100 * hidden.sum(0)
    for plain, tempted in zip(
        our_softmax(hidden, table, targets), our_softmax(hidden, attractive, targets), strict=True
    ):
        torch.testing.assert_close(plain, tempted)
    assert not our_softmax(hidden, attractive, targets)[2][0].any()


def test_a_frozen_side_gets_no_gradient(problem, exact_softmax):
    hidden, table, targets = (part.float() if part.is_floating_point() else part for part in problem)
    hidden.requires_grad_()
    full_softmax(hidden, table, targets).backward()
    torch.testing.assert_close(hidden.grad.double(), exact_softmax(*problem)[1], atol=2e-6, rtol=2e-5)
    assert table.grad is None
    table, hidden = table.requires_grad_(), hidden.detach()
    full_softmax(hidden, table, targets).backward()
    torch.testing.assert_close(table.grad.double(), exact_softmax(*problem)[2], atol=2e-6, rtol=2e-5)
    assert hidden.grad is None


def test_a_hopeless_target_still_has_a_finite_loss_and_gradient():
    hidden = torch.tensor([[300.0]], requires_grad=True)
    table = torch.tensor([[0.0], [1.0], [-1.0]])
    loss = full_softmax(hidden, table, torch.tensor([2]))
    loss.backward()
    assert loss.isfinite()
    assert hidden.grad.item() == pytest.approx(2.0)  # E[vector] - vector of the target = 1 - (-1)


@pytest.mark.parametrize("sampling", ["uniform", "popularity"])
def test_sampled_softmax_estimates_the_full_one(problem, sampling):
    hidden, table, targets = (part.float() if part.is_floating_point() else part for part in problem)
    hidden = hidden / 2
    counts = torch.arange(N_ITEMS + 1) ** 2
    exact = full_softmax(hidden, table, targets).item()
    errors = {}
    for n in (20, 200_000):
        loss = CatalogueLoss(LossConfig("sampled_softmax", n, sampling), N_ITEMS, counts)
        torch.manual_seed(1)
        errors[n] = abs(loss(hidden, table, targets).item() - exact)
    assert errors[200_000] < 0.01
    assert errors[20] > errors[200_000]


def test_sampled_softmax_without_its_correction_would_be_elsewhere(problem):
    """The popular items would be pushed down for being drawn often; that this is not so is what logQ is for."""
    hidden, table, targets = (part.float() if part.is_floating_point() else part for part in problem)
    counts = torch.ones(N_ITEMS + 1)
    counts[1:6] = 1000
    loss = CatalogueLoss(LossConfig("sampled_softmax", 50_000, "popularity"), N_ITEMS, counts)
    torch.manual_seed(2)
    exact = full_softmax(hidden, table, targets).item()
    assert loss(hidden, table, targets).item() == pytest.approx(exact, abs=0.1)
    negatives = torch.multinomial(loss.sampling_weights, 50_000, replacement=True)
    uncorrected = torch.cat([(hidden * table[targets]).sum(-1, keepdim=True), hidden @ table[negatives].T], dim=1)
    uncorrected = F.cross_entropy(uncorrected, torch.zeros(POSITIONS, dtype=torch.int64)).item() - math.log(
        50_000 / N_ITEMS
    )
    assert abs(uncorrected - exact) > 0.3


class _Drawn(CatalogueLoss):
    """A loss whose negatives are known."""

    def _draw(self, shape):
        count = math.prod(shape)
        return (torch.arange(count) * 7 % N_ITEMS + 1).view(shape)


def by_hand(hidden, table, targets, negatives):
    """Per position: score of the target, and the scores of those of its negatives that are not the target."""
    rows = table.tolist()
    for h, t, drawn in zip(hidden.tolist(), targets.tolist(), negatives.tolist(), strict=True):
        scores = [sum(a * b for a, b in zip(h, row, strict=True)) for row in rows]
        yield scores[t], [scores[n] for n in drawn if n != t]


def log_sigmoid(x):
    return -math.log1p(math.exp(-x)) if x > -30 else x


@pytest.mark.parametrize("k", [1, 6])
def test_bce_is_its_formula(problem, k):
    loss = _Drawn(LossConfig("bce", k), N_ITEMS)
    found = loss(*problem).item()
    terms = [
        -log_sigmoid(positive) - sum(log_sigmoid(-s) for s in negatives) / k
        for positive, negatives in by_hand(*problem, loss._draw((POSITIONS, k)))
    ]
    assert found == pytest.approx(sum(terms) / POSITIONS, rel=1e-9)


@pytest.mark.parametrize("t", [0.0, 0.75, 1.0])
def test_gbce_is_its_formula(problem, t):
    k = 6
    loss = _Drawn(LossConfig("gbce", k, gbce_t=t), N_ITEMS)
    alpha = k / (N_ITEMS - 1)
    beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)  # as the paper writes it
    terms = [
        -(beta * log_sigmoid(positive) + sum(log_sigmoid(-s) for s in negatives)) / (k + 1)
        for positive, negatives in by_hand(*problem, loss._draw((POSITIONS, k)))
    ]
    assert loss(*problem).item() == pytest.approx(sum(terms) / POSITIONS, rel=1e-9)


@pytest.mark.parametrize("t", [0.25, 0.75])
def test_gbce_is_bce_of_the_transformed_positive_score(problem, t):
    """How the paper's code computes it: the score s+ is replaced by the one whose sigmoid is sigma(s+)^beta."""
    k = 6
    loss = _Drawn(LossConfig("gbce", k, gbce_t=t), N_ITEMS)
    alpha = k / (N_ITEMS - 1)
    beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
    terms = []
    for positive, negatives in by_hand(*problem, loss._draw((POSITIONS, k))):
        probability = math.exp(log_sigmoid(positive)) ** -beta
        transformed = math.log(1 / (probability - 1))
        terms.append(-(log_sigmoid(transformed) + sum(log_sigmoid(-s) for s in negatives)) / (k + 1))
    assert loss(*problem).item() == pytest.approx(sum(terms) / POSITIONS, rel=1e-7)


@pytest.mark.parametrize("negatives", ["shared", "per_position"])
@pytest.mark.parametrize("logq", [True, False])
def test_sampled_softmax_is_its_formula(problem, negatives, logq):
    k, counts = 6, torch.arange(N_ITEMS + 1)
    config = LossConfig("sampled_softmax", k, "popularity", negatives=negatives, logq=logq, sampling_power=0.5)
    loss = _Drawn(config, N_ITEMS, counts)
    q = (counts.double() + 1) ** 0.5
    q[0] = 0.0
    q /= q.sum()
    drawn = loss._draw((k,)).expand(POSITIONS, k) if negatives == "shared" else loss._draw((POSITIONS, k))
    terms = []
    for h, t, own in zip(problem[0], problem[2].tolist(), drawn.tolist(), strict=True):
        scores = (problem[1] @ h).tolist()
        rivals = [math.exp(scores[n]) / (k * q[n].item() if logq else 1.0) for n in own if n != t]
        terms.append(math.log(math.exp(scores[t]) + sum(rivals)) - scores[t])
    assert loss(*problem).item() == pytest.approx(sum(terms) / POSITIONS, rel=1e-6)


@pytest.mark.parametrize("negatives", ["shared", "per_position"])
def test_bpr_max_is_its_formula(problem, negatives):
    k, reg = 6, 0.4
    loss = _Drawn(LossConfig("bpr_max", k, negatives=negatives, bpr_reg=reg), N_ITEMS)
    drawn = loss._draw((k,)).expand(POSITIONS, k) if negatives == "shared" else loss._draw((POSITIONS, k))
    terms = []
    for positive, scores in by_hand(*problem, drawn):
        positive, *scores = (s if s > 0 else 0.5 * (math.exp(s) - 1) for s in (positive, *scores))
        total = sum(map(math.exp, scores))
        won = sum(math.exp(s) / total / (1 + math.exp(s - positive)) for s in scores)
        terms.append(-math.log(won) + reg * sum(math.exp(s) / total * s * s for s in scores))
    assert loss(*problem).item() == pytest.approx(sum(terms) / POSITIONS, rel=1e-9)


def test_bpr_max_of_a_position_without_negatives_is_finite_and_teaches_nothing_but_smallness():
    positive, scores = torch.tensor([2.0], requires_grad=True), torch.tensor([[2.0]], requires_grad=True)
    catalogue.bpr_max(positive, scores, torch.tensor([[True]]), 0.0).backward()
    assert positive.grad.isfinite().all()
    assert (positive.grad + scores.grad[0]).item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", ["bce", "gbce", "sampled_softmax", "bpr_max"])
def test_reading_scores_out_of_the_whole_product_changes_no_loss_and_no_gradient(problem, monkeypatch, name):
    found = []
    for ratio in (0, 10**6):
        monkeypatch.setattr(catalogue, "ROWS_PER_NEGATIVE", ratio)
        hidden, table = problem[0].clone().requires_grad_(), problem[1].clone().requires_grad_()
        loss = _Drawn(LossConfig(name, 6, negatives="per_position"), N_ITEMS)(hidden, table, problem[2])
        found.append((loss.detach(), *torch.autograd.grad(loss, (hidden, table))))
    torch.testing.assert_close(found[0], found[1])


def test_popularity_can_be_flattened():
    counts = torch.zeros(N_ITEMS + 1)
    counts[1] = 99
    weights = [
        CatalogueLoss(LossConfig("bce", 1, "popularity", sampling_power=power), N_ITEMS, counts).sampling_weights
        for power in (0.0, 0.5, 1.0)
    ]
    assert [round((w[1] / w[2]).item(), 3) for w in weights] == [1.0, 10.0, 100.0]
    assert all(w[0] == 0 and w.sum().item() == pytest.approx(1.0) for w in weights)


def test_uncalibrated_gbce_with_one_negative_is_half_of_bce(problem):
    bce, gbce = _Drawn(LossConfig("bce", 1), N_ITEMS), _Drawn(LossConfig("gbce", 1, gbce_t=0.0), N_ITEMS)
    assert gbce(*problem).item() == pytest.approx(bce(*problem).item() / 2, rel=1e-9)


@pytest.mark.parametrize("sampling", ["uniform", "popularity"])
def test_negatives_are_real_items_and_all_can_be_drawn(sampling):
    counts = torch.zeros(N_ITEMS + 1, dtype=torch.int64)
    counts[1] = 50
    loss = CatalogueLoss(LossConfig("bce", 1, sampling), N_ITEMS, counts)
    torch.manual_seed(0)
    drawn = loss._draw((100, 100)).flatten()
    assert drawn.unique().tolist() == list(range(1, N_ITEMS + 1))
    share_of_first = (drawn == 1).float().mean().item()
    assert share_of_first == pytest.approx(51 / 100 if sampling == "popularity" else 1 / 50, abs=0.02)


@pytest.mark.parametrize("name", LOSSES)
def test_a_small_step_against_its_gradient_lowers_every_loss(problem, name):
    hidden, table, targets = (part.float() if part.is_floating_point() else part for part in problem)
    loss = CatalogueLoss(LossConfig(name, 8), N_ITEMS)
    hidden, table = hidden.requires_grad_(), table.requires_grad_()

    def value(hidden, table):
        torch.manual_seed(0)  # the same negatives
        return loss(hidden, table, targets)

    before = value(hidden, table)
    before.backward()
    with torch.no_grad():
        assert value(hidden - 0.1 * hidden.grad, table) < before
        assert value(hidden, table - 0.1 * table.grad) < before


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (LossConfig("softmx"), ["model.loss", "softmx", *LOSSES]),
        (LossConfig("bce", sampling="even"), ["model.sampling", "even", "uniform", "popularity"]),
        (LossConfig("bce", n_negatives=0), ["model.n_negatives", "bce", "0"]),
        (LossConfig("bpr_max", negatives="each"), ["model.negatives", "each", "shared", "per_position"]),
    ],
)
def test_wrong_settings_are_named(config, words):
    with pytest.raises(UserError) as caught:
        CatalogueLoss(config, N_ITEMS)
    assert all(word in str(caught.value) for word in words)


def test_a_second_backward_pass_is_refused():
    hidden, table = torch.randn(3, 4, requires_grad=True), torch.randn(6, 4, requires_grad=True)
    loss = full_softmax(hidden, table, torch.tensor([1, 2, 5]))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once only"):
        loss.backward()
