"""Attention over edges with relations, and the diffusion over rows of a graph, against plain computations."""

import pytest
import torch

from recbench.nn.graph.graph_denoiser import Diffusion, edge_scores, strongest_edges
from recbench.nn.graph.relation_attention import RelationGraph, softmax_by_head, translation_loss


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_weights_are_the_softmax_over_the_edges_of_a_head():
    head, relation, tail = torch.tensor([2, 0, 0, 2, 0]), torch.tensor([1, 0, 1, 0, 0]), torch.tensor([1, 1, 1, 3, 3])
    graph = RelationGraph(head, relation, tail, 4)
    nodes, relations, maps = drawn(4, 3), drawn(2, 2), drawn(2, 3, 2)
    found = graph.attended(nodes, relations, maps)
    for node in (0, 2):
        edges = (graph.head == node).nonzero()[:, 0].tolist()
        score = torch.stack(
            [
                (nodes[graph.tail[e]] @ maps[graph.relation[e]])
                @ torch.tanh(nodes[node] @ maps[graph.relation[e]] + relations[graph.relation[e]])
                for e in edges
            ]
        )
        torch.testing.assert_close(found.weight[edges], score.softmax(0))
    assert found.product(nodes)[[1, 3]].abs().sum() == 0
    assert graph.even.dense()[0].tolist() == pytest.approx([0, 2 / 3, 0, 1 / 3])


def test_softmax_by_head_bears_large_scores():
    found = softmax_by_head(torch.tensor([1000.0, 999.0, -1000.0]), torch.tensor([0, 0, 1]), 3)
    assert found.tolist() == pytest.approx([0.7311, 0.2689, 1.0], abs=1e-4)


def test_the_loss_of_triples_is_transrs():
    head, tail, wrong = drawn(5, 3), drawn(5, 3) + 1, drawn(5, 3) - 1
    relation, relations, maps = torch.tensor([2, 0, 2, 1, 0]), drawn(4, 2), drawn(4, 3, 2)
    found, wanted = ([part.clone().requires_grad_(True) for part in (head, relations, maps)] for _ in range(2))

    def distance(i, end):
        r = int(relation[i])
        return ((wanted[0][i] - end[i]) @ wanted[2][r] + wanted[1][r]).square().sum()

    expected = sum(torch.nn.functional.softplus(distance(i, tail) - distance(i, wrong)) for i in range(5)) / 5
    loss = translation_loss(found[0], relation, tail, wrong, found[1], found[2])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    expected.backward()
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_the_step_back_from_noise_is_the_posterior_mean():
    steps = Diffusion(5, 0.1)
    assert float(steps.abar[0]) > float(steps.abar[-1]) > 0.99
    # At the first step the mean is the clean row itself; at every one the two shares fit the noise that is left.
    assert (float(steps.of_clean[0]), float(steps.of_noisy[0])) == pytest.approx((1.0, 0.0), abs=1e-4)
    before = torch.cat([torch.ones(1), steps.abar[:-1]])
    torch.testing.assert_close(steps.of_clean + steps.of_noisy * steps.abar.sqrt(), before.sqrt(), atol=1e-4, rtol=1e-4)


def test_an_edge_that_the_others_do_not_bear_out_is_restored_weakest():
    # Two kinds of heads, each with four tails of its own kind; head 0 has one of the other kind besides.
    rows = [(h, t) for h in range(20) for t in range(20 + 4 * (h % 2), 24 + 4 * (h % 2))] + [(0, 26)]
    head, tail = torch.tensor(sorted(rows)).T
    none = torch.zeros(28, 2)
    score = edge_scores(
        head, tail, 28, Diffusion(5, 0.1), 16, 150, (0.0, none, none), torch.Generator().manual_seed(0), lr=1e-2
    )
    of_first = (head == 0).nonzero()[:, 0]
    assert tail[of_first[score[of_first].argmin()]] == 26
    kept = strongest_edges(head, score, 4)
    assert kept[of_first].tolist() == [True, True, True, True, False]
    assert kept.sum() == 80
