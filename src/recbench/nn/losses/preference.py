"""Losses over preferences: which of several answers is better, against a frozen model of before.

    D = log p(answer) - log p_before(answer)

    dpo           - log sigmoid(beta (D+ - D-)), mean over the rejected [Rafailov et al., NeurIPS 2023]
    softmax_dpo   - log sigmoid(- log sum_j exp(beta (D-_j - D+))) [S-DPO: Chen et al., NeurIPS 2024]
    grpo          - mean_g A_g log p(answer_g) / M + beta k3,   A = (r - mean r) / std r of the group, k3 = e^(-D) + D - 1 [Shao et al., 2024]

Shapes: N histories, J rejected answers, G answers of a group, M levels of an answer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: What an answer is worth that is the target's code for code but the last ones, by how many first codes are right (GREAM).
PREFIX_WORTH = (0.0, 0.5, 0.707, 0.866, 0.95)


def dpo(chosen: Tensor, rejected: Tensor, there: Tensor, beta: float) -> Tensor:
    """D of the chosen [N] and of the rejected [N, J], of which ``there`` [N, J] are real -> scalar; 0 where none is."""
    margins = F.logsigmoid(beta * (chosen[:, None] - rejected))
    return -(margins * there).sum() / there.sum().clamp_min(1)


def softmax_dpo(chosen: Tensor, rejected: Tensor, there: Tensor, beta: float) -> Tensor:
    """As ``dpo``, all rejected of a history at once; a history without any counts for nothing."""
    asked = there.any(1)
    lost = (beta * (rejected - chosen[:, None])).masked_fill(~there, -torch.inf)[asked].logsumexp(1)
    return -F.logsigmoid(-lost).sum() / asked.sum().clamp_min(1)


def advantages(rewards: Tensor, there: Tensor) -> Tensor:
    """rewards [N, G] -> [N, G], mean 0 and spread 1 over the real ones of a group; 0 in groups whose rewards are equal."""
    n = there.sum(1, keepdim=True).clamp_min(1)
    mean = (rewards * there).sum(1, keepdim=True) / n
    centred = (rewards - mean) * there
    spread = (centred.square().sum(1, keepdim=True) / n).sqrt()
    return torch.where(spread > 1e-6, centred / (spread + 1e-6), 0.0)


def grpo(own: Tensor, before: Tensor, rewards: Tensor, there: Tensor, beta: float) -> Tensor:
    """own, before [N, G, M] log p of the answers' codes, rewards [N, G] -> scalar. Groups whose rewards are equal have a gradient of exactly 0."""
    advantage = advantages(rewards, there)
    counted = there & (advantage != 0).any(1, keepdim=True)
    gap = before - own
    drift = (gap.exp() - 1 - gap).mean(2)
    losses = -advantage * own.mean(2) + beta * drift
    return torch.where(counted, losses, 0.0).sum() / counted.sum().clamp_min(1)


def exact_rewards(items: Tensor, good: Tensor) -> Tensor:
    """items [N, G], good [N, A] (0: none) -> [N, G] 1 where an item is among the good ones.

    >>> exact_rewards(torch.tensor([[3, 4]]), torch.tensor([[4, 0]])).tolist()
    [[0.0, 1.0]]
    """
    return ((items[:, :, None] == good[:, None]) & (items > 0)[:, :, None]).any(2).float()


def rank_rewards(items: Tensor, good: Tensor) -> Tensor:
    """1 for a hit, and for a miss at place i of a list with a hit -1 / log2(i + 2) over the sum of these; lists without a hit are worth 0 throughout
    (MiniOneRec's rule and rank rewards)."""
    hit = exact_rewards(items, good)
    fall = -1.0 / torch.log2(torch.arange(items.shape[1], device=items.device) + 2.0)
    missed = fall * (1 - hit)
    missed = missed / missed.abs().sum(1, keepdim=True).clamp_min(1e-12)
    return torch.where(hit.any(1, keepdim=True), hit + missed, 0.0)


def prefix_rewards(codes: Tensor, target: Tensor) -> Tensor:
    """codes [N, G, M] of the answers, target [N, M] -> [N, G]: 1 for all codes right, else by how many of the first are.

    >>> prefix_rewards(torch.tensor([[[1, 2, 3], [1, 2, 4], [1, 9, 3], [7, 2, 3]]]), torch.tensor([[1, 2, 3]])).tolist()[0]
    [1.0, 0.7070000171661377, 0.5, 0.0]
    """
    right = (codes == target[:, None]).long().cumprod(2).sum(2)
    worth = torch.tensor(PREFIX_WORTH, device=codes.device)[right.clamp(max=len(PREFIX_WORTH) - 1)]
    return torch.where(right == codes.shape[2], 1.0, worth)
