"""What is particular to BERT4Rec: which events are hidden, that a hidden one is never seen, and that both sides are."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.models.base import ModelContext
from recbench.models.sequential.bert4rec import BERT4Rec, BERT4RecConfig, whole_windows

CONTEXT = ModelContext(n_items=30, n_users=5, max_length=12)
SMALL = {"hidden_size": 8, "n_heads": 2, "feedforward_size": 16, "dropout": 0.0}


def model(**keys):
    torch.manual_seed(0)
    made = BERT4Rec(BERT4RecConfig(**{**SMALL, **keys}), CONTEXT).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


@pytest.fixture
def training():
    """Two windows, 1..5 then 6, and 7, 8 then 9."""
    items, targets = torch.tensor([[1, 2, 3, 4, 5], [7, 8, 0, 0, 0]]), torch.tensor([[2, 3, 4, 5, 6], [8, 9, 0, 0, 0]])
    return Batch(items, torch.zeros_like(items), torch.tensor([5, 2]), torch.tensor([0, 1]), targets)


def test_the_last_target_is_part_of_the_sentence(training):
    items, lengths = whole_windows(training)
    assert items.tolist() == [[1, 2, 3, 4, 5, 6], [7, 8, 9, 0, 0, 0]]
    assert lengths.tolist() == [6, 3]
    assert training.items.shape == (2, 5)


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_the_wanted_share_of_each_sentence_is_hidden_and_no_pad(share):
    made = model(mask_share=share, last_only_share=0.0)
    lengths = torch.tensor([2, 3, 5, 10, 13])
    wanted = [max(1, round(share * n)) for n in lengths.tolist()]
    torch.manual_seed(1)
    drawn = torch.stack([made.draw_masks(lengths, 13) for _ in range(400)])
    assert (drawn.sum(2) == torch.tensor(wanted)).all()
    assert not drawn[:, torch.arange(13) >= lengths[:, None]].any()
    often = drawn.float().mean(0)
    for row, (length, count) in enumerate(zip(lengths.tolist(), wanted, strict=True)):
        torch.testing.assert_close(often[row, :length], torch.full((length,), count / length), atol=0.1, rtol=0.0)


def test_some_sentences_hide_their_last_event_only():
    made, lengths = model(mask_share=0.5, last_only_share=0.3), torch.full((2000,), 8)
    torch.manual_seed(2)
    drawn = made.draw_masks(lengths, 9)
    single = drawn.sum(1) == 1
    assert single.float().mean().item() == pytest.approx(0.3, abs=0.04)
    assert drawn[single, 7].all()


def test_masks_follow_torch_s_generator(training):
    made, lengths = model(), torch.tensor([6, 3])
    torch.manual_seed(5)
    first, second = made.draw_masks(lengths, 6), made.draw_masks(lengths, 6)
    torch.manual_seed(5)
    assert torch.equal(made.draw_masks(lengths, 6), first)
    assert torch.equal(made.draw_masks(lengths, 6), second)


def test_a_hidden_item_is_never_seen():
    made = model()
    items, lengths = torch.tensor([[1, 2, 3, 4, 5, 6], [7, 8, 9, 0, 0, 0]]), torch.tensor([6, 3])
    hidden = torch.zeros(2, 6, dtype=torch.bool)
    hidden[0, [1, 5]], hidden[1, 0] = True, True
    other = items.clone()
    other[hidden] = torch.tensor([20, 21, 22])
    assert torch.equal(made.encode(other, lengths, hidden), made.encode(items, lengths, hidden))
    # And the loss asks for exactly these: a gradient reaches the input vector of no hidden item.
    made.zero_grad()
    made.encode(items, lengths, hidden).sum().backward()
    reached = made.item_embedding.weight.grad.abs().sum(1) > 0
    assert reached.nonzero()[:, 0].tolist() == [1, 3, 4, 5, 8, 9]


def test_the_loss_predicts_the_hidden_events_and_no_others(training, monkeypatch):
    made = model()
    asked = []
    forward = made.loss.forward
    monkeypatch.setattr(made.loss, "forward", lambda h, t, targets: asked.append(targets) or forward(h, t, targets))
    hidden = torch.tensor([[True, False, False, True, False, False], [False, False, True, False, False, False]])
    monkeypatch.setattr(made, "draw_masks", lambda lengths, width: hidden)
    assert made.training_loss(training).isfinite()
    assert asked[0].tolist() == [1, 4, 9]


def test_a_position_sees_both_of_its_sides():
    made = model()
    items, lengths = torch.tensor([[1, 2, 3, 4]]), torch.tensor([4])
    hidden = torch.tensor([[False, True, False, False]])
    plain = made.encode(items, lengths, hidden)[0, 1]
    for place in (0, 2, 3):
        changed = items.clone()
        changed[0, place] = 25
        assert not torch.allclose(made.encode(changed, lengths, hidden)[0, 1], plain, atol=1e-4)
    assert not made.is_causal


def test_the_next_item_is_asked_for_by_a_mask_behind_the_history(histories):
    made, batch = model(), histories([1, 2, 3], [4])
    for row, history in enumerate(([1, 2, 3], [4])):
        length = len(history) + 1
        items = torch.tensor([[*history, 17]])  # what stands under the mask does not matter
        hidden = torch.arange(length)[None] == length - 1
        state = made.encode(items, torch.tensor([length]), hidden)[0, -1]
        expected = made.head(state) @ made.item_embedding.weight.T + made.item_bias
        torch.testing.assert_close(made.score(batch)[row], expected)


def test_positions_are_counted_from_the_end(histories):
    """So the mask has the same place behind every history, and the oldest events are those whose place is rare."""
    made, batch = model(), histories([1, 2, 3], [4])
    before = made.score(batch)
    with torch.no_grad():
        made.position_embedding.weight[4:] *= -3.0
    assert torch.equal(made.score(batch), before)
    with torch.no_grad():
        made.position_embedding.weight[2] *= -3.0  # two behind the mask: only the longer history has such an event
    after = made.score(batch)
    assert torch.equal(after[1], before[1])
    assert not torch.allclose(after[0], before[0])


def test_a_history_of_the_full_length_keeps_its_oldest_event(histories):
    made = model()
    full = histories(list(range(1, 13)))
    assert not torch.allclose(
        made.score(replace(full, items=full.items.index_fill(1, torch.tensor([0]), 30))), made.score(full)
    )


@pytest.mark.parametrize(
    "keys",
    [{"mask_share": 0.0}, {"mask_share": 1.0}, {"last_only_share": -0.1}, {"last_only_share": 1.1}, {"n_heads": 3}],
)
def test_wrong_keys_are_named(keys):
    with pytest.raises(UserError, match=f"model.{next(iter(keys))}"):
        BERT4Rec(BERT4RecConfig(**{**SMALL, **keys}), CONTEXT)
