"""Results of another framework as a run folder: ranks of the same users by the same rules, so that they stand in a table with intervals.

Shapes: U users, K length of a list, T targets, C cases.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from recbench.cli.foreign.result_file import Results, read_results
from recbench.config.run import RunConfig
from recbench.core import run_folder
from recbench.core.errors import UserError
from recbench.core.run_folder import RunFolder
from recbench.data.batches import Batch
from recbench.data.training import TrainingData
from recbench.evaluation.evaluate import evaluate_lists
from recbench.evaluation.outcome import Evaluation
from recbench.experiment.context import RunContext
from recbench.experiment.evaluate import chosen_metrics, cold_figures, write_ranks
from recbench.experiment.provenance import provenance

if TYPE_CHECKING:
    from recbench.data.cases import Cases

#: In metrics.json: where the results came from. Its presence says that no model of ours made them.
IMPORTED = "imported"


def import_results(path: Path, name: str, config: RunConfig) -> tuple[RunFolder, dict[str, Any]]:
    """The run folder of a file of results, and its figures. config: data, protocol and evaluation of the split that was asked.

    Raises UserError for a file that cannot be read, names users or items that are unknown, lacks users of the test, or lists an item twice.
    """
    stage = RunContext.of(config)
    data, split = stage.data, stage.split
    if len(np.unique(split.test.user)) < len(split.test):
        raise UserError(
            f"{split.protocol_id} asks a user several times, and results with a row a user cannot tell which time is meant; use a protocol with "
            "one case a user"
        )
    results = read_results(path, data, split.test)
    longest = data.n_items if results.lists is None else results.lists.shape[1]
    cutoffs = [k for k in config.evaluation.cutoffs if k <= longest]
    if not cutoffs:
        raise UserError(
            f"{path}: its lists have {longest} items, fewer than every one of evaluation.cutoffs={config.evaluation.cutoffs}"
        )
    if results.lists is None and config.evaluation.metrics:
        raise UserError("evaluation.metrics read lists, and this file has ranks alone; import lists, or leave them out")
    config = replace(config, evaluation=replace(config.evaluation, cutoffs=cutoffs, monitor=""))
    ranked = _from_lists(results, stage, max(cutoffs)) if results.lists is not None else _from_ranks(results, stage)
    digest = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    folder = run_folder.open_folder(config.runs_dir, _key(name, digest, config, stage))
    with run_folder.locked(folder), run_folder.recording(folder):
        counts = TrainingData.of(data, split).item_counts()
        added, means, listed = chosen_metrics(ranked, counts, data, split, config, folder)
        write_ranks(ranked, added, folder)
        shown = {} if results.lists is None else ranked.beyond_accuracy(counts, cutoffs)
        measured = {**ranked.metrics(cutoffs), **shown, **means}
        metrics = {
            **{f"test/{split.metric_prefix}{key}": value for key, value in measured.items()},
            **cold_figures(ranked, counts, split, cutoffs),
            "test/cases": len(split.test),
            "test/skipped_cases": ranked.cases_without_targets,
            **listed,
            IMPORTED: {"file": path.name, "blake2b": digest, "kind": "lists" if results.lists is not None else "ranks"},
            "protocol": split.protocol_id,
            "audit": split.audit,
            "oracle": data.manifest.get("extra", {}).get("oracle", {}),
            "dependencies": {},
        }
        plain = config.as_dict()
        plain |= {"model": {"name": name, IMPORTED: True}, "distillation": {"name": "none"}}
        folder.write("config.yaml", plain)
        folder.write("provenance.json", provenance(config, data, split, {}) | {IMPORTED: metrics[IMPORTED]})
        folder.write("metrics.json", metrics)
        folder.set_state("finished", reason=f"imported from {path.name}")
    return folder, metrics


def _key(name: str, digest: str, config: RunConfig, stage: RunContext) -> str:
    parts = [
        name,
        digest,
        str(config.seed),
        stage.split.protocol_id,
        stage.split.split_hash,
        str(config.evaluation.cutoffs),
    ]
    word = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "foreign"
    return f"{word}-{hashlib.blake2b('|'.join(parts).encode(), digest_size=6).hexdigest()}"


def _from_lists(results: Results, stage: RunContext, most: int) -> Evaluation:
    """Ranked as the lists of a model of ours: seen items are taken out where the protocol masks them, and equal scores share their places."""
    assert results.lists is not None
    assert results.scores is not None
    lists, scores = torch.from_numpy(results.lists), torch.from_numpy(results.scores)

    def recommend(batch: Batch, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        return lists[batch.user, :length], scores[batch.user, :length]

    length = lists.shape[1]
    return evaluate_lists(recommend, stage.data, stage.split.test, stage.split, 1, length, top_k=min(most, length))


def _from_ranks(results: Results, stage: RunContext) -> Evaluation:
    cases: Cases = stage.split.test
    case = np.repeat(np.arange(len(cases)), cases.n_targets)
    n = len(case)
    return Evaluation(
        case=case,
        user=cases.user[case],
        target=cases.targets,
        rank=results.ranks,
        n_equal=np.ones(n, np.int64),
        truncated=np.isinf(results.ranks),
        invalid=np.zeros((n, 0), bool),
        history_length=(cases.end - cases.start)[case],
        top_k_case=np.empty(0, np.int64),
        top_k=np.empty((0, 0), np.int32),
        n_ranked=stage.data.n_items if cases.candidates is None else cases.candidates.shape[1] + 1,
        cases_without_targets=int((cases.n_targets == 0).sum()),
    )
