"""How a model is asked, for scores or for lists, and its answers ranked."""

from __future__ import annotations

from typing import Any

import torch

from recbench.config.run import RunConfig
from recbench.data.batches import Batch
from recbench.data.cases import Cases
from recbench.data.split import Split
from recbench.data.store import PreparedData
from recbench.evaluation.blocks import is_wide
from recbench.evaluation.evaluate import ScoreFunction, evaluate, evaluate_lists
from recbench.evaluation.outcome import Evaluation, merge
from recbench.experiment.device import device_of
from recbench.models.base import Recommender
from recbench.models.collaborative.entities import EntityModel
from recbench.models.sequence_model import SequenceModel
from recbench.nn.losses.buffers import workspace
from recbench.training.processes import ranks as processes


def rank_cases(
    model: Recommender, data: PreparedData, split: Split, cases: Cases, config: RunConfig, top_k: int = 0
) -> Evaluation:
    """Rank the targets of the cases with a model, in evaluation mode and on the device of the config.

    Where several processes work together each ranks its share of the cases, and all get what they found together.
    """
    device, ranks = device_of(config.hardware), processes.here()
    model = model.to(device).eval()
    length = read_length(model, split, config)
    share: dict[str, Any] = {"part": ranks.rank, "parts": ranks.world, "rows": model.rows_at_once}
    if gives_lists(model):
        wanted = list_length(split, config)
        own = evaluate_lists(model.recommend, data, cases, split, length, wanted, top_k=top_k, device=device, **share)
    else:
        asked = model.score_candidates if model.scores_candidates else None
        score = score_function(model, device)
        own = evaluate(score, data, cases, split, length, score_candidates=asked, top_k=top_k, device=device, **share)
    return of_all(own)


def of_all(own: Evaluation) -> Evaluation:
    """What all processes found, from this one's share."""
    return own if processes.here().world == 1 else merge(processes.gather(own))


def read_length(model: Recommender, split: Split, config: RunConfig) -> int:
    """How many events of a history a model is shown: ``training.max_length``, or all where a history is a set and the model takes it whole."""
    if not (split.whole_histories and model.reads_whole_history):
        return config.training.max_length
    return max(int((cases.end - cases.start).max()) for cases in (split.validation, split.test))


def score_function(model: Recommender, device: torch.device) -> ScoreFunction:
    """How a model is asked for the scores of a block. Those over a wide catalogue go into one buffer, which the next block overwrites: on a CPU
    a fresh one for each would be paid for in page faults, which take as long as the product."""
    if device.type != "cpu" or not fills_a_buffer(model):
        return model.score
    filled: Any = model
    width = model.n_items + 1

    def score(batch: Batch) -> torch.Tensor:
        buffer = workspace(len(batch) * width, filled.item_vectors().dtype, device, "scores")
        scores: torch.Tensor = filled.score_into(buffer[: len(batch) * width].view(len(batch), width), batch)
        return scores

    return score


def fills_a_buffer(model: Recommender) -> bool:
    """Whether a model writes its scores into a given buffer, and gains by it: sequence models over a wide catalogue, and any model of users and
    items, whose many small blocks would otherwise leave the heap in pieces (2.5 GB in place of 1 on Gowalla)."""
    if isinstance(model, EntityModel):
        return type(model).score is EntityModel.score
    return isinstance(model, SequenceModel) and type(model).score is SequenceModel.score and is_wide(model.n_items)


def gives_lists(model: Recommender) -> bool:
    """Whether a model is asked for lists, not for scores."""
    return model.gives_lists


def list_length(split: Split, config: RunConfig) -> int:
    """How long the lists must be, so that enough is left when the seen items are taken out."""
    return 2 * max(config.evaluation.cutoffs) + (config.training.max_length if split.seen_items == "mask" else 0)
