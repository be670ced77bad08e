"""What a study writes down of each run: a line of its ``results.csv``."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbench.config.tuned import tuned_file
from recbench.core.run_folder import LATENCY_FILE, replacing, rule_file, sampled_file
from recbench.evaluation.clicks import METRICS as CLICK_METRICS
from recbench.evaluation.statistics.per_user import MEASURES
from recbench.report.columns import RECORDED
from recbench.study.definition import OWN_NAMES
from recbench.training.convergence import run_was_cut_off

if TYPE_CHECKING:
    from recbench.study.definition import Study
    from recbench.study.jobs import Job

Record = dict[str, Any]

#: Metrics of every results.csv; those that a study's columns name come on top.
METRICS = ("ndcg@10", "hr@10", "mrr", "ndcg@5", "hr@5", "hr@1")
#: The file of conf/tuned that values of a run come from.
VALUES_FROM = "values_from"
#: The training loss of a run that ended above that of guessing, and the latter.
DOUBTS = ("loss", "uniform_loss")
#: Mark of a record that results.csv tells and no run here; it is written nowhere.
TOLD = "told"
#: Of rerankers: the share of targets that are among the reordered items.
RECALL = "candidate_recall"
#: The column with the share that a row has of the best achievable score.
SHARE = "share_of_best"


def share_of_best(metrics: Mapping[str, Any], column: str) -> float | None:
    """Test figure over the best that any model could reach, from 0 to 1; None where that is not known: data that are not generated, another
    protocol than leave_one_out, another metric."""
    best = (
        metrics.get("oracle", {}).get(f"test/{column}")
        if metrics["protocol"].startswith("leave_one_out-full")
        else None
    )
    found = metrics.get(f"test/{column}")
    return found / best if found is not None and best else None


def measured(metrics: Mapping[str, Any], part: str, name: str) -> float | None:
    """A figure of a part of the data, such as "test/". Recall is the hit rate where nobody has more than one target: it is measured once then,
    and a table that asks for recall gets it."""
    found = metrics.get(part + name)
    return metrics.get(part + name.replace("recall@", "hr@")) if found is None else found


def record_of(job: Job, is_chosen: bool, study: Study) -> Record:
    """One line of results.csv for a finished job."""
    folder, prefix = job.folder, job.config.protocol.metric_prefix
    metrics = folder.read("metrics.json")
    ours = CLICK_METRICS if job.config.protocol.asks_clicks else METRICS
    asked = [name for name in study.columns if ("@" in name and "/" not in name) or name in MEASURES or name == RECALL]
    wanted = dict.fromkeys([*ours, *asked])
    plain = [name for name in wanted if not name.startswith(("sampled", "validation_", "mask_", "keep_"))]
    figures: Record = {f"validation_{prefix}{name}": measured(metrics, f"validation/{prefix}", name) for name in plain}
    figures |= {f"{prefix}{name}": measured(metrics, f"test/{prefix}", name) for name in plain}
    figures |= {name: value for name, value in metrics.items() if name.startswith("tokenizer/")}
    figures |= {name: metrics.get(name) for name in study.columns if name.startswith(OWN_NAMES)}
    costs = {name.removeprefix("cost/"): value for name, value in metrics.items() if name.startswith("cost/")}
    figures |= {name: costs.get(name) for name in RECORDED} | costs
    if SHARE in study.columns:
        figures[SHARE] = share_of_best(metrics, study.columns[0])
    config = job.config.as_dict()
    figures["cut_off"] = run_was_cut_off(config, metrics)
    if file := tuned_file(config):
        figures[VALUES_FROM] = file
    if doubt := metrics.get("doubts"):
        figures |= {name: doubt[name] for name in DOUBTS}
    if job.phase == "final":
        sampled = folder.read(sampled_file(study.n_sampled)) if study.n_sampled else {}
        ruled = [folder.read(rule_file(rule)) for rule in ("mask", "keep")] if study.both_rules else []
        for found in (sampled, *ruled):
            figures |= {name.removeprefix("test/"): value for name, value in found.items()}
        figures |= folder.read(LATENCY_FILE)
    return {
        "row": job.row,
        "phase": job.phase,
        "seed": job.seed,
        **dict(job.choice),
        "chosen": is_chosen,
        "key": job.key,
        "data": job.config.data.title(),
        "protocol": metrics["protocol"],
        **figures,
        "dependencies": " ".join(f"{role}={key}" for role, key in job.dependencies),
        "commit": _commit(folder.read("provenance.json")),
    }


def _commit(provenance: Mapping[str, Any]) -> str:
    """The commit that a run was made with, marked where the checkout held changes beside it; empty for an installed package."""
    return str(provenance.get("commit") or "") + ("-dirty" if provenance.get("dirty") else "")


def write_csv(path: Path, records: Sequence[Record]) -> None:
    """All records under the union of their columns, in the order of their first appearance but for what a run stands on and its commit."""
    found = dict.fromkeys(name for record in records for name in record if name != TOLD)
    last = [name for name in ("dependencies", "commit") if name in found]
    names = [name for name in found if name not in last]
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*names, *last], extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
