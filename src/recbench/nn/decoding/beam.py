"""Beam search over codes: all users and all beams of a level at once.

Scores are sums of log-probabilities. What no item continues gets -inf after the softmax over the level's vocabulary, so forbidden codes keep
their share of it: renormalising over the allowed ones would favour beams with few continuations.

Shapes: B users, W beams, C continuations of a beam, S_l codes of level l.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recbench.nn.decoding.codes import CodeModel
from recbench.nn.decoding.trie import Trie


def beam_search(model: CodeModel, trie: Trie, beams: int, constrained: bool = True) -> tuple[Tensor, Tensor]:
    """(leaf [B, W] int64, its log-probability [B, W]), best first; W is at most ``beams``.

    constrained: follow the trie only. W is then ``beams``, or all leaves where there are fewer. What the model itself calls impossible ends with
    -inf: drop it (``Trie.expand`` does). Not constrained: a beam whose codes no item has ends with leaf -1 and its score.
    """
    log_probs, state = model.first()
    scores = log_probs.new_zeros(len(log_probs), 1)
    node = torch.zeros(scores.shape, dtype=torch.int64, device=scores.device)
    step = constrained_step if constrained else free_step
    last = len(trie.levels) - 1
    for depth in range(last + 1):
        node, scores, parent, code = step(trie, depth, node, scores, log_probs, beams)
        if depth < last:
            log_probs, state = model.next(state, parent, code)
    return node, scores


Step = tuple[Tensor, Tensor, Tensor, Tensor]


def constrained_step(trie: Trie, depth: int, node: Tensor, scores: Tensor, log_probs: Tensor, beams: int) -> Step:
    """The best ``beams`` children of the nodes of each user: (child, score, parent's place, code), [B, W'] each.

    node, scores [B, W] at ``depth``; log_probs [B, W, S_l]. Every node has a child and no more are asked for than there are nodes, so only a
    beam that scores -inf already can find none; it stays at -inf, at a node that exists.
    """
    child, code = trie.children(depth, node)
    # Of a table the codes are 0, 1, ... in place.
    gain = log_probs if code is None else log_probs.gather(2, code)
    total = torch.where(child >= 0, gain + scores[..., None], -torch.inf).flatten(1)
    best = total.topk(min(beams, len(trie.levels[depth]), total.shape[1]), dim=1)
    width = child.shape[2]
    parent = best.indices // width
    chosen = child.flatten(1).gather(1, best.indices).clamp(min=0)
    spelled = best.indices % width if code is None else code.flatten(1).gather(1, best.indices)
    return chosen, best.values, parent, spelled


def free_step(trie: Trie, depth: int, node: Tensor, scores: Tensor, log_probs: Tensor, beams: int) -> Step:
    """As ``constrained_step`` over all codes of the level; the node is -1 once the codes are no item's."""
    total = (scores[..., None] + log_probs).flatten(1)
    best = total.topk(min(beams, total.shape[1]), dim=1)
    size = log_probs.shape[2]
    parent, code = best.indices // size, best.indices % size
    return trie.child(depth, node.gather(1, parent), code), best.values, parent, code
