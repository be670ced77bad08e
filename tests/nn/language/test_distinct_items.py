"""Each item once: the same loss and the same gradients as with a vector looked up at every place."""

from __future__ import annotations

import torch

from recbench.nn.language.distinct_items import distinct_items, with_pad


def test_the_same_values_and_gradients_as_encoding_every_place():
    torch.manual_seed(0)
    encoder = torch.nn.Linear(3, 4)
    features = torch.randn(9, 3)
    history, targets = torch.tensor([[7, 3, 7], [8, 0, 0]]), torch.tensor([3, 7, 8, 2])
    real = history > 0

    def loss(history_vectors, target_vectors):
        return (history_vectors[real] @ target_vectors.T).tanh().sum()

    loss(encoder(features[history]), encoder(features[targets])).backward()
    expected = encoder.weight.grad.clone()
    encoder.zero_grad()
    items, (first, second) = distinct_items(history, targets)
    assert items.tolist() == [2, 3, 7, 8]
    vectors = with_pad(encoder(features[items]))
    assert not vectors[first][~real].any()
    once = loss(vectors[first], vectors[second])
    once.backward()
    torch.testing.assert_close(encoder.weight.grad, expected)
    torch.testing.assert_close(once, loss(encoder(features[history]), encoder(features[targets])))


def test_nothing_but_pads():
    items, (places,) = distinct_items(torch.zeros(2, 3, dtype=torch.int64))
    assert not len(items)
    assert not places.any()
