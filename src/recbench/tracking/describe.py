"""What MLflow is told of a finished run: one set of names for all models, so that its table and charts compare them at once."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from recbench.config.run_name import is_silent, run_name
from recbench.config.tuned import tuned_file
from recbench.models.auxiliary import AUXILIARIES
from recbench.tracking.store import KEY_TAG, NAME_LENGTH, NAME_TAG, PARAMETER_LENGTH, Point

#: Of what a run cost, the figures that become metrics: how large it is, how fast, and what training took. The rest is in metrics.json.
COSTS = (
    "cost/parameters_total",
    "cost/parameters_active",
    "cost/bytes_on_disk",
    "cost/peak_memory_bytes",
    "cost/flops_per_user",
    "cost/latency_p50_ms",
    "cost/train_seconds",
    "cost/train_seconds_with_dependencies",
)


def metric_name(name: str) -> str:
    """MLflow's name of one of ours: it allows no '@'."""
    return name.replace("@", "_at_")


def headline(final: Mapping[str, Any], measure: str = "ndcg") -> str | None:
    """The figure that decides between models: NDCG on test at 10, or at the largest cutoff, whatever prefix the protocol gives it.

    >>> headline({"test/ndcg@5": 0.1, "test/ndcg@10": 0.2, "test/ndcg@20": 0.3}), headline({"tokenizer/items": 9})
    ('test/ndcg@10', None)
    """
    parts = [
        (name, name.rpartition(f"{measure}@")[2])
        for name in final
        if name.startswith("test/") and f"{measure}@" in name
    ]
    # Not those of ties, as in ndcg@10_optimistic.
    found = {int(cutoff): name for name, cutoff in parts if cutoff.isdigit()}
    return found.get(10) or (found[max(found)] if found else None)


def metrics_of(final: Mapping[str, Any], history: list[dict[str, Any]], started: int, ended: int) -> Iterator[Point]:
    """Final figures, then one point an epoch of everything that the history holds. started, ended: milliseconds since 1970."""
    # What comes first is what MLflow shows first where it must choose.
    first = headline(final)
    for name in [*([first] if first else []), *(name for name in final if name != first)]:
        value = final[name]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and (name in COSTS or not name.startswith("cost/")):
            yield Point(metric_name(name), float(value), ended, 0)
    clock = float(started)
    for epoch in history:
        clock += 1000 * (epoch.get("seconds/train", 0.0) + epoch.get("seconds/validation", 0.0))
        for name, value in epoch.items():
            if name != "epoch":
                yield Point(metric_name(f"epoch/{name}"), float(value), int(clock), int(epoch["epoch"]))


#: Parts of a config that say nothing on the run, and tags or figures of it that say more.
NO_PARAMETERS = ("tracking", "runs_dir", "cache_dir", "tuned")


def parameters_of(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The config as dotted keys, named as on the command line; ``model.name`` is ``model`` and so on.

    What is not set, and the settings of auxiliaries that are not used, are left out: they would stand between those that differ.
    """
    kept = {key: value for key, value in config.items() if key not in NO_PARAMETERS}
    if file := tuned_file(config):
        kept["tuned"] = file
    model = kept.get("model", {})
    if "auxiliary" in model:
        unused = set(AUXILIARIES) - set(model["auxiliary"])
        kept["model"] = {key: value for key, value in model.items() if key not in unused}
    return [(name, str(value)[:PARAMETER_LENGTH]) for name, value in _flat(kept) if value not in (None, [])]


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        else:
            yield prefix.rstrip(".") if key == "name" else name, value


def tags_of(
    key: str,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    source: Mapping[str, Any],
    folder: Path | None = None,
    varied: Sequence[str] = (),
) -> dict[str, str]:
    """What a run is found by. The names that begin with ``mlflow.`` fill columns of MLflow's own table. varied: as in ``run_name``."""
    versions = source.get("versions", {})
    tags = {
        NAME_TAG: run_name(config, varied)[:NAME_LENGTH],
        KEY_TAG: key,
        "recbench.model": config["model"]["name"],
        "recbench.data": config["data"]["name"],
        "recbench.protocol": metrics.get("protocol"),
        "recbench.seed": config["seed"],
        "recbench.folder": str(folder.absolute()) if folder else None,
        "recbench.data_fingerprint": source.get("data_fingerprint"),
        "recbench.split_hash": source.get("split_hash"),
        "recbench.hardware": source.get("processor"),
        "recbench.gpu": ", ".join(source.get("gpu", [])) or "none",
        "git.dirty": source.get("dirty"),
        "recbench.config_hash": source.get("config_hash"),
        "recbench.determinism": source.get("determinism"),
        "recbench.device": source.get("device"),
        **{f"driver.{name}": number for name, number in source.get("drivers", {}).items()},
        **common_tags(source.get("commit")),
        # Facts of the data: the same for every run on them, so each would only be a chart of equal bars.
        **{
            f"{group}.{name}": _short(value)
            for group in ("audit", "oracle")
            for name, value in metrics.get(group, {}).items()
        },
        **{f"version.{name}": number for name, number in versions.items()},
    }
    return {name: str(value) for name, value in tags.items() if value is not None}


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def sweep_tags(name: str, command: Sequence[str], commit: str | None) -> dict[str, str]:
    """Of the run that stands for a sweep. name: of its folder, where the command says nothing."""
    return {
        NAME_TAG: f"sweep {sweep_words(command) or name}"[:NAME_LENGTH],
        "recbench.sweep": " ".join(command),
        **common_tags(commit),
    }


def sweep_words(command: Sequence[str]) -> str:
    """A sweep by its words: first those with several values, then the others that can change a result.

    >>> sweep_words(["-m", "data=amazon", "model=sasrec,tiger", "runs_dir=/tmp/a", "tracking.uri=http://a"])
    'model=sasrec,tiger data=amazon'
    """
    words = [word for word in command if "=" in word and not is_silent(word)]
    return " ".join(sorted(words, key=lambda word: not is_varied(word)))


def is_varied(word: str) -> bool:
    """Whether a word of a sweep's command stands for several values."""
    return "," in word or "(" in word


def common_tags(commit: str | None) -> dict[str, str]:
    """Tags of every run in MLflow, whatever it stands for."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without a table of users
        user = "unknown"
    code = {"git.commit": commit, "mlflow.source.git.commit": commit} if commit else {}
    return {"mlflow.user": user, "mlflow.source.name": "recbench", "mlflow.source.type": "LOCAL", **code}
