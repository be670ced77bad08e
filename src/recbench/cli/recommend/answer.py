"""From histories to the best items, by the rules of the run's protocol. Shapes: R histories, k items of a list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from recbench.cli.recommend.histories import History, batch_of
from recbench.cli.recommend.model_of_run import Opened

if TYPE_CHECKING:
    from recbench.data.batches import Batch

#: Histories that are answered at once.
AT_ONCE = 256


@dataclass(frozen=True)
class Answer:
    """A list: item numbers and their scores, best first; fewer than asked for where the model knows no more."""

    history: History
    items: list[int]
    scores: list[float]


def recommend(opened: Opened, histories: Sequence[History], k: int, mask_seen: bool | None = None) -> list[Answer]:
    """The k best items of the whole catalogue for each history.

    mask_seen: whether items of the complete history are left out; None: as in the run's protocol. Ties stand in the order that evaluation
    uses. Raises ScoreError for scores that are NaN or infinite.
    """
    masked = opened.stage.split.seen_items == "mask" if mask_seen is None else mask_seen
    found: list[Answer] = []
    for first in range(0, len(histories), AT_ONCE):
        found += _block(opened, histories[first : first + AT_ONCE], k, masked)
    return found


def _block(opened: Opened, histories: Sequence[History], k: int, masked: bool) -> list[Answer]:
    items, scores = best_of(opened, histories, k, masked)
    return [
        _answer(history, row, values, k)
        for history, row, values in zip(histories, items.tolist(), scores.tolist(), strict=True)
    ]


@torch.inference_mode()
def best_of(
    opened: Opened, histories: Sequence[History], k: int, mask_seen: bool | None = None
) -> tuple[Tensor, Tensor]:
    """(items [R, n] int64, scores [R, n] float32), best first: the first k places that are not 0 are the answer; n is at least k where the
    model knows as many. All histories are one block. mask_seen and errors: as ``recommend``."""
    from recbench.evaluation.ranked_items import RankedItems
    from recbench.evaluation.ranking import Seen, check_lists, check_scores, drop_seen
    from recbench.evaluation.top_k import top_k_lists

    data, model = opened.stage.data, opened.model
    masked = opened.stage.split.seen_items == "mask" if mask_seen is None else mask_seen
    batch = _batch(opened, histories)
    ends = np.cumsum([len(h.items) for h in histories])
    flat = np.concatenate([h.items for h in histories])
    starts = np.concatenate([[0], ends[:-1]])
    device = batch.items.device
    ranked = RankedItems.of(opened.stage.split.ranked, device)
    seen = Seen.of_histories(flat, starts, ends, device) if masked else Seen.nothing(device)
    if model.gives_lists:
        # Long enough to lose every seen item.
        longest = max(len(set(h.items.tolist())) for h in histories) if masked else 0
        items, scores = model.recommend(batch, min(2 * k + longest, data.n_items))
        items, scores = check_lists(items, scores, len(histories), data.n_items)
        items, scores = ranked.lists(*drop_seen(items, scores, seen, data.n_items))
        return items.masked_fill(scores == -torch.inf, 0), scores
    table = ranked.scores(check_scores(model.score(batch), np.array([h.user for h in histories]), data.n_items))
    items = top_k_lists(table, k, batch.user, ranked.seen(seen)).long()
    return ranked.items(items), table.gather(1, items)


@torch.inference_mode()
def scores_of(opened: Opened, histories: Sequence[History]) -> Tensor:
    """Scores [R, n_items + 1] of a model that has them, seen items included. Raises ScoreError for scores that are NaN or infinite."""
    from recbench.evaluation.ranking import check_scores

    users = np.array([h.user for h in histories])
    return check_scores(opened.model.score(_batch(opened, histories)), users, opened.stage.data.n_items)


def _batch(opened: Opened, histories: Sequence[History]) -> Batch:
    model = opened.model
    device = next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    length = opened.config.training.max_length
    if opened.stage.split.whole_histories and model.reads_whole_history:
        length = max(len(history.items) for history in histories)
    return batch_of(histories, length, opened.stage.data.has_behaviours).to(device)


def _answer(history: History, items: list[int], scores: list[float], k: int) -> Answer:
    real = [(item, score) for item, score in zip(items, scores, strict=True) if item][:k]
    return Answer(history, [item for item, _ in real], [score for _, score in real])


def named(opened: Opened, answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """The answers as plain values, with raw ids and titles (null where the data have none)."""
    table = opened.stage.data.item_table()
    names, titles = table["item"].to_list(), table["title"].to_list()
    return [
        {
            "history": answer.history.label,
            "events": len(answer.history.items),
            "items": [
                {"rank": rank, "item": names[item - 1], "title": titles[item - 1], "score": score}
                for rank, (item, score) in enumerate(zip(answer.items, answer.scores, strict=True), start=1)
            ],
        }
        for answer in answers
    ]
