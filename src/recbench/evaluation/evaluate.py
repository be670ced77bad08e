"""From a scoring function and cases to ranks: block by block, in memory that does not grow with users or catalogue.

The list of blocks depends on data and config alone. Several processes take the blocks in turn, so what they find
together is exactly what one process finds. Shapes: C cases, T targets, B rows of a block, W = n_items + 1, k length of
a list.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recbench.core.errors import UserError
from recbench.core.pace import Pace
from recbench.data.batches import Batch
from recbench.data.cases import Cases
from recbench.data.split import Split
from recbench.data.store import PreparedData
from recbench.evaluation.blocks import Block, blocks_of
from recbench.evaluation.outcome import Evaluation
from recbench.evaluation.ranked_items import RankedItems
from recbench.evaluation.ranking import check_lists, check_scores, drop_seen, rank_from_lists, rank_targets

logger = logging.getLogger(__name__)

ScoreFunction = Callable[[Batch], Tensor]
CandidateFunction = Callable[[Batch, Tensor], Tensor]
RecommendFunction = Callable[[Batch, int], tuple[Tensor, Tensor]]


def evaluate(
    score: ScoreFunction,
    data: PreparedData,
    cases: Cases,
    split: Split,
    max_length: int,
    *,
    score_candidates: CandidateFunction | None = None,
    top_k: int = 0,
    device: torch.device | str = "cpu",
    part: int = 0,
    parts: int = 1,
    rows: int | None = None,
) -> Evaluation:
    """Rank every target of the cases under the split's rules.

    score: batch of B histories (most recent ``max_length`` events) -> scores [B, W] of any float type. top_k: also keep
    the best k items of each case, over the whole catalogue. score_candidates: asked in place of ``score`` where the cases have candidates:
    (batch, items [B, 1 + K], in no order that tells the target) -> scores; the lists still come from ``score``. part of parts: this process's
    share of the blocks; see ``merge``. rows: cases a block, by default from ``block_rows``. Raises ScoreError for scores that are NaN or +inf or
    of the wrong shape.
    """

    kept, wanted = RankedItems.of(split.ranked, device), min(top_k, data.n_items)

    def rank_block(block: Block) -> _Ranks:
        asks = score_candidates is not None and block.candidates is not None
        if top_k or not asks:
            scores = kept.scores(check_scores(score(block.batch), block.user, data.n_items))
        ranked = kept.scores(_scores_of_candidates(score_candidates, block, data.n_items)) if asks else scores
        target, seen, candidates = kept.numbers(block.target), kept.seen(block.seen), kept.numbers(block.candidates)
        rank, n_equal = rank_targets(ranked, block.row, target, seen, candidates)
        lists = kept.best(scores, wanted, block.batch.user, seen) if top_k else None
        never = torch.zeros_like(block.row, dtype=torch.bool)
        return _Ranks(rank, n_equal, never, never.new_zeros(len(never), 0), lists)

    blocks = blocks_of(data, cases, split, max_length, device, part, parts, rows)
    return _collect(blocks, rank_block, cases, wanted, 0, kept.n_items(data.n_items), parts)


def evaluate_lists(
    recommend: RecommendFunction,
    data: PreparedData,
    cases: Cases,
    split: Split,
    max_length: int,
    list_length: int,
    *,
    top_k: int = 0,
    device: torch.device | str = "cpu",
    part: int = 0,
    parts: int = 1,
    rows: int | None = None,
) -> Evaluation:
    """Like ``evaluate`` for models that give lists: recommend(batch, list_length) -> (items [B, list_length], scores).

    Where seen items are masked they are taken out of the lists and later items move up, so ask for longer lists than
    the cutoffs. Items of equal score, such as those of a bucket, share the mean of their places, as in ``evaluate``. Targets
    beyond the list have an infinite rank and are flagged. Raises UserError for protocols that rank among candidates.
    """
    if cases.candidates is not None:
        raise UserError(
            f"{split.protocol_id} ranks given candidates, which a model that only gives lists cannot; use leave_one_out, or "
            "model.decoder=exact where the model has it"
        )
    kept = min(top_k, list_length, data.n_items)
    ranked = RankedItems.of(split.ranked, device)

    def rank_block(block: Block) -> _Ranks:
        items, scores = recommend(block.batch, list_length)
        items, scores = check_lists(items, scores, len(block.user), data.n_items)
        invalid = ((items == 0) & (scores > -torch.inf))[block.row, : data.n_items]
        items, scores = ranked.lists(*drop_seen(items, scores, block.seen, data.n_items))
        rank, n_equal, truncated = rank_from_lists(items, scores, block.row, block.target)
        return _Ranks(rank, n_equal, truncated, invalid, items[:, :kept].int() if kept else None)

    blocks = blocks_of(data, cases, split, max_length, device, part, parts, rows)
    n_ranked = ranked.n_items(data.n_items)
    return _collect(blocks, rank_block, cases, kept, min(list_length, data.n_items), n_ranked, parts)


@dataclass(frozen=True)
class _Ranks:
    rank: Tensor
    n_equal: Tensor
    truncated: Tensor
    invalid: Tensor
    lists: Tensor | None


def _scores_of_candidates(score: CandidateFunction | None, block: Block, n_items: int) -> Tensor:
    """[B, W]: the scores of each case's target and candidates, -inf elsewhere."""
    assert score is not None
    assert block.candidates is not None
    if len(block.row) != len(block.user):
        raise UserError("a protocol of candidates has one target a case")
    asked = torch.cat([block.target[:, None], block.candidates], 1).sort(dim=1).values
    found = score(block.batch, asked).float()
    table = found.new_full((len(asked), n_items + 1), -torch.inf)
    return check_scores(table.scatter(1, asked, found), block.user, n_items)


@torch.inference_mode()
def _collect(
    blocks: Iterator[Block],
    rank_block: Callable[[Block], _Ranks],
    cases: Cases,
    k: int,
    listed_places: int,
    n_ranked: int,
    parts: int,
) -> Evaluation:
    """Rank every block and put the findings in order of case."""
    n_cases = -(-int((cases.n_targets > 0).sum()) // parts)  # of this process, or one block more
    case_of_target = np.repeat(np.arange(len(cases)), cases.n_targets)
    empty = np.empty(0, dtype=np.int64)
    index, rank, n_equal, truncated, invalid, list_case = (
        [empty],
        [empty.astype(np.float64)],
        [empty],
        [empty.astype(bool)],
        [np.empty((0, listed_places), dtype=bool)],
        [empty],
    )
    lists = [np.empty((0, k), dtype=np.int32)]
    n_done, pace = 0, Pace(n_cases)
    for block in blocks:
        found = rank_block(block)
        n_done += len(block.case)
        if pace.due(n_done):
            logger.info("%s of %s histories ranked, about %s left", f"{n_done:,}", f"{n_cases:,}", pace.left(n_done))
        index.append(block.index)
        rank.append(found.rank.cpu().numpy())
        n_equal.append(found.n_equal.cpu().numpy())
        truncated.append(found.truncated.cpu().numpy())
        invalid.append(found.invalid.cpu().numpy())
        if found.lists is not None:
            list_case.append(block.case)
            lists.append(found.lists.cpu().numpy())
    # Targets stand in order of case, so their index orders both.
    targets = np.concatenate(index)
    order = np.argsort(targets)
    targets = targets[order]
    case = case_of_target[targets]
    listed = np.concatenate(list_case)
    by_case = np.argsort(listed)
    return Evaluation(
        case=case,
        user=np.asarray(cases.user[case]),
        target=np.asarray(cases.targets[targets]),
        rank=np.concatenate(rank)[order],
        n_equal=np.concatenate(n_equal)[order],
        truncated=np.concatenate(truncated)[order],
        invalid=np.concatenate(invalid)[order],
        history_length=np.asarray(cases.end[case] - cases.start[case]),
        top_k_case=listed[by_case],
        top_k=np.concatenate(lists)[by_case],
        n_ranked=n_ranked if cases.candidates is None else cases.candidates.shape[1] + 1,
        cases_without_targets=int((cases.n_targets == 0).sum()),
    )
