"""From a scoring function and cases to ranks: block by block, in memory that does not grow with users or catalogue.

The list of blocks depends on data and config alone. Several processes take the blocks in turn, so what they find
together is exactly what one process finds. Shapes: C cases, T targets, B rows of a block, W = n_items + 1, k length of
a list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from recbench.core.errors import UserError
from recbench.data.batches import Batch, evaluation_batches
from recbench.data.cases import Cases
from recbench.data.split import Split
from recbench.data.store import PreparedData
from recbench.evaluation.added_metrics import RankedLists
from recbench.evaluation.beyond_accuracy import beyond_accuracy
from recbench.evaluation.metrics import ranking_metrics
from recbench.evaluation.ranked_items import RankedItems
from recbench.evaluation.ranking import Seen, check_lists, check_scores, drop_seen, rank_from_lists, rank_targets

#: Bounds of a block: scores (float32, 32 MiB) and history positions that a model sees at once.
BLOCK_SCORES = 1 << 23
BLOCK_POSITIONS = 1 << 16
#: Of a catalogue of which the first bound holds fewer rows than this, so many rows, as long as their scores keep to another bound (128 MiB):
#: every block reads the whole item table, and a product with few rows does little else.
WIDE_ROWS, WIDE_BLOCK_SCORES = 32, 1 << 25

ScoreFunction = Callable[[Batch], Tensor]
CandidateFunction = Callable[[Batch, Tensor], Tensor]
RecommendFunction = Callable[[Batch, int], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Evaluation:
    """What was found, one row a target, ordered by case.

    case, user [T] int64 · target [T] int32 · rank [T] float64, from 1 · n_equal [T] int64: items with the target's
    score, itself included · truncated [T] bool: the model gave a list and the target was not in it, so the rank is
    infinite: a miss at every cutoff, and nothing to the reciprocal rank · invalid [T, K] bool: places of the list as it
    was given that hold no item; K is 0 for scores · history_length [T] int64, complete · top_k_case [C], top_k [C, k]
    int32: the best items of each case (empty unless asked for; 0 = none). n_ranked: items that each target was ranked
    among. cases_without_targets: skipped, not counted as zero.
    """

    case: np.ndarray
    user: np.ndarray
    target: np.ndarray
    rank: np.ndarray
    n_equal: np.ndarray
    truncated: np.ndarray
    invalid: np.ndarray
    history_length: np.ndarray
    top_k_case: np.ndarray
    top_k: np.ndarray
    n_ranked: int
    cases_without_targets: int

    def metrics(self, cutoffs: Sequence[int]) -> dict[str, float]:
        """Accuracy by plain name (see ``recbench.evaluation.metrics``). ``truncated`` is added where lists were cut, and for lists invalid@k:
        the share of the first k places that the model filled with something that is no item."""
        values = ranking_metrics(self.rank, self.case, self.n_equal, self.n_ranked, cutoffs)
        if self.truncated.any():
            values["truncated"] = float(self.truncated.mean())
        if self.invalid.shape[1]:
            values |= {f"invalid@{k}": float(self.invalid[:, :k].mean()) for k in cutoffs}
        return values

    def beyond_accuracy(self, training_counts: np.ndarray, cutoffs: Sequence[int]) -> dict[str, float]:
        """Coverage, Gini, popularity and novelty of the lists. training_counts [n_items + 1]."""
        return beyond_accuracy(self.top_k, training_counts, cutoffs)

    def ranked_lists(self, training_counts: np.ndarray) -> RankedLists:
        """What metrics of other packages read. training_counts [n_items + 1]; the lists must have been asked for."""
        _, row = np.unique(self.case, return_inverse=True)
        return RankedLists(self.rank, row, self.target, self.history_length, self.top_k, training_counts, self.n_ranked)

    def table(self) -> dict[str, np.ndarray]:
        """Columns of the per-target table, [T] each."""
        names = ("case", "user", "target", "rank", "n_equal", "truncated", "history_length")
        return {name: getattr(self, name) for name in names}


def block_rows(n_items: int, max_length: int) -> int:
    """Cases a block: as many as both bounds allow, at least one. Independent of device and number of processes."""
    width = n_items + 1
    rows = max(BLOCK_SCORES // width, min(WIDE_ROWS, WIDE_BLOCK_SCORES // width))
    return max(1, min(rows, BLOCK_POSITIONS // max(max_length, 1)))


def is_wide(n_items: int) -> bool:
    """Whether a block of so many items is bounded by WIDE_ROWS."""
    return BLOCK_SCORES // (n_items + 1) < WIDE_ROWS


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

    def rank_block(block: _Block) -> _Ranks:
        asks = score_candidates is not None and block.candidates is not None
        if top_k or not asks:
            scores = kept.scores(check_scores(score(block.batch), block.user, data.n_items))
        ranked = kept.scores(_scores_of_candidates(score_candidates, block, data.n_items)) if asks else scores
        target, seen, candidates = kept.numbers(block.target), kept.seen(block.seen), kept.numbers(block.candidates)
        rank, n_equal = rank_targets(ranked, block.row, target, seen, candidates)
        lists = kept.best(scores, wanted, block.batch.user, seen) if top_k else None
        never = torch.zeros_like(block.row, dtype=torch.bool)
        return _Ranks(rank, n_equal, never, never.new_zeros(len(never), 0), lists)

    blocks = _blocks(data, cases, split, max_length, device, part, parts, rows)
    return _collect(blocks, rank_block, cases, wanted, 0, kept.n_items(data.n_items))


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

    def rank_block(block: _Block) -> _Ranks:
        items, scores = recommend(block.batch, list_length)
        items, scores = check_lists(items, scores, len(block.user), data.n_items)
        invalid = ((items == 0) & (scores > -torch.inf))[block.row, : data.n_items]
        items, scores = ranked.lists(*drop_seen(items, scores, block.seen, data.n_items))
        rank, n_equal, truncated = rank_from_lists(items, scores, block.row, block.target)
        return _Ranks(rank, n_equal, truncated, invalid, items[:, :kept].int() if kept else None)

    blocks = _blocks(data, cases, split, max_length, device, part, parts, rows)
    n_ranked = ranked.n_items(data.n_items)
    return _collect(blocks, rank_block, cases, kept, min(list_length, data.n_items), n_ranked)


def merge(parts: Sequence[Evaluation]) -> Evaluation:
    """What all processes found together, ordered by case: equal to what a single process finds."""
    joined = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(Evaluation)
        if field.name not in ("n_ranked", "cases_without_targets")
    }
    by_case = np.argsort(joined["case"], kind="stable")
    by_list = np.argsort(joined["top_k_case"], kind="stable")
    ordered = {name: array[by_list if name.startswith("top_k") else by_case] for name, array in joined.items()}
    return Evaluation(**ordered, n_ranked=parts[0].n_ranked, cases_without_targets=parts[0].cases_without_targets)


@dataclass(frozen=True)
class _Block:
    """One batch and what is asked about it. row, target [t] int64: targets of the block; index [t]: their places in
    ``cases.targets``."""

    case: np.ndarray
    user: np.ndarray
    index: np.ndarray
    batch: Batch
    row: Tensor
    target: Tensor
    seen: Seen
    candidates: Tensor | None


@dataclass(frozen=True)
class _Ranks:
    rank: Tensor
    n_equal: Tensor
    truncated: Tensor
    invalid: Tensor
    lists: Tensor | None


def _scores_of_candidates(score: CandidateFunction | None, block: _Block, n_items: int) -> Tensor:
    """[B, W]: the scores of each case's target and candidates, -inf elsewhere."""
    assert score is not None
    assert block.candidates is not None
    if len(block.row) != len(block.user):
        raise UserError("a protocol of candidates has one target a case")
    asked = torch.cat([block.target[:, None], block.candidates], 1).sort(dim=1).values
    found = score(block.batch, asked).float()
    table = found.new_full((len(asked), n_items + 1), -torch.inf)
    return check_scores(table.scatter(1, asked, found), block.user, n_items)


def _blocks(
    data: PreparedData,
    cases: Cases,
    split: Split,
    max_length: int,
    device: torch.device | str,
    part: int,
    parts: int,
    rows: int | None,
) -> Iterator[_Block]:
    asked = np.flatnonzero(cases.n_targets > 0)
    wanted = cases if len(asked) == len(cases) else cases.select(asked)
    rows = rows or block_rows(data.n_items, max_length)
    for chosen, batch in evaluation_batches(data, wanted, max_length, rows, part, parts):
        case = asked[chosen]
        row, index = cases.targets_of(case)
        # The complete history, not the part of it that the model was shown.
        masked = split.seen_items == "mask"
        seen = (
            Seen.of_histories(data.items, cases.start[case], cases.end[case], device)
            if masked
            else Seen.nothing(device)
        )
        candidates = None if cases.candidates is None else np.asarray(cases.candidates[case], dtype=np.int64)
        yield _Block(
            case=case,
            user=cases.user[case],
            index=index,
            batch=batch.to(device),
            row=torch.from_numpy(row).to(device),
            target=torch.from_numpy(cases.targets[index].astype(np.int64)).to(device),
            seen=seen,
            candidates=None if candidates is None else torch.from_numpy(candidates).to(device),
        )


@torch.inference_mode()
def _collect(
    blocks: Iterator[_Block],
    rank_block: Callable[[_Block], _Ranks],
    cases: Cases,
    k: int,
    listed_places: int,
    n_ranked: int,
) -> Evaluation:
    """Rank every block and put the findings in order of case."""
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
    for block in blocks:
        found = rank_block(block)
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
