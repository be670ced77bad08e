"""Unordered codes decided one after the other, the most certain first, until few items are left [after REG4Rec, arXiv 2508.15308].

Every code of an item has a softmax of its own. Of each user the levels are taken in the order of their most probable code; at each, only items stay
whose code is among the ``beams`` most probable ones there. A level that would leave fewer items than are asked for is passed over (the first keeps
as many codes as it takes). What is left is ranked by the mean log-probability of all codes, as full scoring ranks the whole catalogue. So the two
differ by what is cut away alone, and with all codes kept not at all.

Shapes: B users, N items, M levels, S_l codes of level l, T = sum of S_l, P pairs of a user and an item that is still in.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def confident_lists(table: Tensor, tokens: Tensor, sizes: Sequence[int], beams: int, k: int) -> tuple[Tensor, Tensor]:
    """(items [B, k] int64 from 1, scores [B, k]), best first, items of equal scores in their order; behind the end item 0 at -inf.

    table [T, B]: log-probabilities of all codes, level after level. tokens [N, M]: of each item its codes as rows of the table. k at most N.
    """
    levels = table.split(list(sizes))
    certainty = torch.stack([level.amax(0) for level in levels])
    order = certainty.argsort(dim=0, descending=True, stable=True)  # [M, B]
    member = torch.cat([_most_probable(level, beams) for level in levels])  # [T, B] bool
    user, item = _of_first_level(table, tokens, sizes, order[0], beams, k)
    for level in order[1:]:
        inside = member[tokens[item, level[user]], user]
        left = torch.zeros(table.shape[1], dtype=torch.int64, device=user.device).index_add_(0, user, inside.long())
        stays = inside | (left < k)[user]
        user, item = user[stays], item[stays]
    scores = table[tokens[item], user[:, None]].mean(1)
    return _best(user, item, scores, table.shape[1], k)


def _most_probable(level: Tensor, beams: int) -> Tensor:
    """[S, B] bool: the codes of a level that are kept."""
    kept = level.topk(min(beams, len(level)), dim=0).indices
    return torch.zeros_like(level, dtype=torch.bool).scatter_(0, kept, True)


def _of_first_level(
    table: Tensor, tokens: Tensor, sizes: Sequence[int], level: Tensor, beams: int, k: int
) -> tuple[Tensor, Tensor]:
    """(user [P], item [P] from 0): the items that have one of the most probable codes of each user's first level [B], k of them at least."""
    start = torch.tensor([0, *sizes], device=level.device).cumsum(0)
    users, items = [], []
    for number in level.unique().tolist():
        who = (level == number).nonzero()[:, 0]
        own = table[start[number] : start[number + 1], who]
        code = tokens[:, number] - start[number]
        count = torch.bincount(code, minlength=sizes[number])
        ranked = own.argsort(dim=0, descending=True, stable=True)  # [S, B']
        reached = count[ranked].cumsum(0)
        needed = (reached < k).sum(0).add(1).clamp_min(beams)  # codes that each user keeps
        place = torch.empty_like(ranked).scatter_(
            0, ranked, torch.arange(len(ranked), device=level.device)[:, None].expand_as(ranked)
        )
        kept = place < needed  # [S, B']
        row, column = kept[code].T.nonzero(as_tuple=True)
        users.append(who[row])
        items.append(column)
    return torch.cat(users), torch.cat(items)


def _best(user: Tensor, item: Tensor, scores: Tensor, n_users: int, k: int) -> tuple[Tensor, Tensor]:
    """Pairs as lists."""
    order = (user * (int(item.max()) + 1) + item).argsort()
    user, item, scores = user[order], item[order], scores[order]
    count = torch.bincount(user, minlength=n_users)
    place = torch.arange(len(user), device=user.device) - (count.cumsum(0) - count)[user]
    width = max(int(count.max()), k)
    found = scores.new_full((n_users, width), -torch.inf)
    named = torch.zeros(n_users, width, dtype=torch.int64, device=user.device)
    found[user, place], named[user, place] = scores, item + 1
    best = found.sort(dim=1, descending=True, stable=True)
    return named.gather(1, best.indices)[:, :k], best.values[:, :k]
