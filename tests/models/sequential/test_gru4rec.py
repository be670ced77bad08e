"""What is particular to GRU4Rec: gradients of one step, and a loss over what happened in the other rows."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.models.base import ModelContext
from recbench.models.sequential.gru4rec import GRU4Rec, GRU4RecConfig, InBatchLoss

N_ITEMS = 20
COUNTS = torch.arange(N_ITEMS + 1) ** 2
CONTEXT = ModelContext(N_ITEMS, 5, 10, COUNTS)
SMALL = {"hidden_size": 6, "n_negatives": 7, "embedding_dropout": 0.0}


def model(**keys):
    torch.manual_seed(0)
    made = GRU4Rec(GRU4RecConfig(**{**SMALL, **keys}), CONTEXT)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made.train()


@pytest.fixture
def batch():
    items = torch.tensor([[1, 2, 3, 4, 5], [7, 8, 9, 0, 0], [2, 0, 0, 0, 0]])
    targets = torch.tensor([[2, 3, 4, 5, 6], [8, 9, 2, 0, 0], [11, 0, 0, 0, 0]])
    return Batch(items, torch.zeros_like(items), torch.tensor([5, 3, 1]), torch.arange(3), targets)


def walked(made, batch, cut):
    """States [B, L, D] as the authors compute them: a cell, one event after another; ``cut`` detaches the state before each."""
    outputs = made.item_embedding(batch.items)
    for gru in made.layers:
        state, states = torch.zeros_like(outputs[:, 0]), []
        for now in outputs.unbind(1):
            state = state.detach() if cut else state
            gi = now @ gru.weight_ih_l0.T + gru.bias_ih_l0
            gh = state @ gru.weight_hh_l0.T + gru.bias_hh_l0
            (ir, iz, im), (hr, hz, hm) = gi.chunk(3, 1), gh.chunk(3, 1)
            update = torch.sigmoid(iz + hz)
            state = (1 - update) * torch.tanh(im + torch.sigmoid(ir + hr) * hm) + update * state
            states.append(state)
        outputs = torch.stack(states, dim=1)
    return outputs


@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("bptt", [False, True])
def test_states_and_gradients_are_those_of_the_walk(batch, bptt, n_layers):
    made = model(bptt=bptt, n_layers=n_layers)
    weight = torch.randn(3, 5, 6)
    results = []
    for states in (made.hidden_states(batch)[-1], walked(made, batch, cut=not bptt)):
        made.zero_grad()
        (states * weight).sum().backward()
        results.append((states.detach(), {n: p.grad.clone() for n, p in made.named_parameters() if p.grad is not None}))
    torch.testing.assert_close(results[0], results[1])


def test_without_bptt_the_loss_of_an_event_reaches_its_own_input_only(batch):
    def reached(bptt):
        made = model(bptt=bptt)
        made.hidden_states(batch)[-1][0, 3].sum().backward()
        return (made.item_embedding.weight.grad.abs().sum(1) > 0).nonzero()[:, 0].tolist()

    assert reached(False) == [4]
    assert reached(True) == [1, 2, 3, 4]


def test_the_state_itself_reaches_back_all_the_same(batch):
    made = model().eval()
    changed = batch.items.clone()
    changed[0, 0] = 12
    other = Batch(changed, batch.timestamps, batch.lengths, batch.user)
    assert not torch.allclose(made.score(other)[0], made.score(batch)[0])


class _Drawn(InBatchLoss):
    """A loss whose samples are known."""

    def _draw(self, shape):
        return (torch.arange(math.prod(shape)) * 3 % N_ITEMS + 1).view(shape)


def by_hand(batch, hidden, table, drawn):
    """For each position: its target, (item, score) of the targets of other rows and of the samples, less the target itself."""
    row = batch.mask.nonzero()[:, 0].tolist()
    targets = batch.targets[batch.mask].tolist()
    for n, target in enumerate(targets):
        score = (table @ hidden[n]).tolist()
        others = [t for r, t in zip(row, targets, strict=True) if r != row[n] and t != target]
        yield target, score[target], [(i, score[i]) for i in others], [(i, score[i]) for i in drawn if i != target]


@pytest.fixture
def problem(batch):
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(9, 6, generator=generator, dtype=torch.float64)
    table = torch.randn(N_ITEMS + 1, 6, generator=generator, dtype=torch.float64)
    return hidden, table, batch.targets[batch.mask], batch.mask.nonzero()[:, 0]


@pytest.mark.parametrize("logq", [True, False])
def test_cross_entropy_is_the_authors_formula(batch, problem, logq):
    power, loss = 0.5, _Drawn(GRU4RecConfig(**SMALL, logq=logq), N_ITEMS, COUNTS)
    terms = []
    for target, positive, others, drawn in by_hand(batch, *problem[:2], loss._draw((7,)).tolist()):

        def log_count(item):
            return math.log(COUNTS[item].item() + 1) if logq else 0.0

        positive = positive - log_count(target)
        rivals = [s - log_count(i) for i, s in others] + [s - power * log_count(i) for i, s in drawn]
        terms.append(math.log(sum(map(math.exp, [positive, *rivals]))) - positive)
    assert loss(*problem[:3], rows=problem[3]).item() == pytest.approx(sum(terms) / 9, rel=1e-6)


def test_bpr_max_is_its_formula(batch, problem):
    loss = _Drawn(GRU4RecConfig(**SMALL, loss="bpr_max", bpr_reg=0.7), N_ITEMS, COUNTS)

    def elu(score):
        return score if score > 0 else 0.5 * (math.exp(score) - 1)

    terms = []
    for _, positive, others, drawn in by_hand(batch, *problem[:2], loss._draw((7,)).tolist()):
        rivals = [elu(s) for _, s in others + drawn]
        total = sum(map(math.exp, rivals))
        weights = [math.exp(r) / total for r in rivals]
        won = sum(w / (1 + math.exp(r - elu(positive))) for w, r in zip(weights, rivals, strict=True))
        terms.append(-math.log(won) + 0.7 * sum(w * r * r for w, r in zip(weights, rivals, strict=True)))
    assert loss(*problem[:3], rows=problem[3]).item() == pytest.approx(sum(terms) / 9, rel=1e-9)


def test_the_loss_of_the_model_knows_which_positions_share_a_row(batch, monkeypatch):
    made, given = model(), []
    forward = made.loss.forward
    monkeypatch.setattr(made.loss, "forward", lambda *args: given.append(args) or forward(*args))
    made.training_loss(batch)
    assert given[0][4].tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 2]
    assert given[0][2].tolist() == [2, 3, 4, 5, 6, 8, 9, 2, 11]


def test_without_in_batch_the_samples_alone_are_negatives(problem):
    config = GRU4RecConfig(**SMALL, in_batch=False, logq=False)
    loss, (hidden, table, targets, _) = _Drawn(config, N_ITEMS, COUNTS), problem
    scores = hidden @ table[loss._draw((7,))].T
    scores = scores.masked_fill(loss._draw((7,)) == targets[:, None], -torch.inf)
    expected = F.cross_entropy(torch.cat([(hidden * table[targets]).sum(1)[:, None], scores], 1), torch.zeros(9).long())
    assert loss(*problem[:3], rows=problem[3]).item() == pytest.approx(expected.item())


def test_the_score_is_state_times_vector_plus_bias(batch):
    made = model().eval()
    last = made.hidden_states(batch)[-1][[0, 1, 2], [4, 2, 0]]
    torch.testing.assert_close(made.score(batch), last @ made.item_embedding.weight.T + made.item_bias)


def test_rows_share_negatives_or_are_none_to_each_other():
    with pytest.raises(UserError, match=r"model.negatives=shared or model.in_batch=false"):
        model(negatives="per_position")
    assert model(negatives="per_position", in_batch=False)


def test_an_embedding_dropout_outside_its_range_is_refused():
    with pytest.raises(UserError, match=r"model\.embedding_dropout"):
        model(embedding_dropout=1.0)
