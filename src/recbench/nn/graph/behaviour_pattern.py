"""A session's graph written out as a sequence: its nodes, its edges in the order they were walked, its last node.

    [node 1] .. [node n]  [from][to] [from][to] ..  [last]

Shapes: B rows, L events of the longest session, W tokens of the longest pattern; W < 3 L.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recbench.nn.graph.session_graph import first_events

#: What a token of a pattern stands for. A description is no part of a pattern; its tokens are told from these by a number of their own.
NODE, FROM, TO, LAST, DESCRIPTION = range(5)
N_PARTS = 5


@dataclass(frozen=True)
class Pattern:
    """position [B, W] int64: the event whose item a token stands for · part [B, W] int64: NODE, FROM, TO or LAST · lengths [B] int64: tokens.

    Right-padded; what stands behind a row's length means nothing.
    """

    position: Tensor
    part: Tensor
    lengths: Tensor


def behaviour_pattern(items: Tensor, lengths: Tensor) -> Pattern:
    """The patterns of right-padded sessions: items [B, L] (0 at pads), lengths [B] of at least 1.

    Nodes stand in the order of their first events, each once; an edge that is walked twice stands twice.
    """
    rows = torch.arange(len(items), device=items.device)[:, None].expand_as(items)
    event = torch.arange(items.shape[1], device=items.device).expand_as(items)
    real = event < lengths[:, None]
    is_node = real & (first_events(items) == event)
    n_nodes = is_node.sum(1)
    tokens = n_nodes + 2 * lengths - 1
    position = torch.zeros(len(items), int(tokens.max()), dtype=torch.int64, device=items.device)
    part = torch.zeros_like(position)

    def put(where: Tensor, place: Tensor, stands_for: Tensor, kind: int) -> None:
        """Write the chosen cells of [B, L] at their places in the pattern."""
        position[rows[where], place[where]] = stands_for[where]
        part[rows[where], place[where]] = kind

    put(is_node, is_node.cumsum(1) - 1, event, NODE)
    arrives = real & (event > 0)
    edge = n_nodes[:, None] + 2 * (event - 1)
    put(arrives, edge, event - 1, FROM)
    put(arrives, edge + 1, event, TO)
    put(event == lengths[:, None] - 1, edge + 2, event, LAST)
    return Pattern(position, part, tokens)
