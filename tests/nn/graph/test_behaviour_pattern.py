"""A session's graph as a sequence of tokens, against writing it out one session at a time."""

from __future__ import annotations

from itertools import pairwise

import torch

from recbench.nn.graph.behaviour_pattern import FROM, LAST, NODE, TO, behaviour_pattern


def written_out(session):
    """[(item, part)] of one session."""
    nodes = [(item, NODE) for item in dict.fromkeys(session)]
    edges = [end for a, b in pairwise(session) for end in ((a, FROM), (b, TO))]
    return [*nodes, *edges, (session[-1], LAST)]


def test_patterns_are_nodes_edges_in_order_and_the_last_node():
    g = torch.Generator().manual_seed(0)
    lengths = torch.tensor([1, 2, 9, 5, 9, 7, 3])
    items = torch.randint(1, 5, (7, 9), generator=g) * (torch.arange(9) < lengths[:, None])
    pattern = behaviour_pattern(items, lengths)
    for row, n in enumerate(lengths.tolist()):
        expected = written_out(items[row, :n].tolist())
        width = int(pattern.lengths[row])
        stood_for = items[row, pattern.position[row, :width]].tolist()
        assert list(zip(stood_for, pattern.part[row, :width].tolist(), strict=True)) == expected
    assert pattern.position.shape[1] == int(pattern.lengths.max()) < 3 * 9
