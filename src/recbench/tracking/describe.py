"""What MLflow is told of a finished run: one set of names for all models, so that its table and charts compare them at once."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from recbench.models.auxiliary import AUXILIARIES
from recbench.tracking.client import KEY_TAG, NAME_TAG, Point

#: MLflow's longest value of a parameter.
PARAMETER_LENGTH = 6000
#: What MLflow's databases take as a name.
NAME_LENGTH = 250


def metric_name(name: str) -> str:
    """MLflow's name of one of ours: it allows no '@'."""
    return name.replace("@", "_at_")


def headline(final: Mapping[str, Any]) -> str | None:
    """The figure that decides between models: NDCG on test at 10, or at the largest cutoff, whatever prefix the protocol gives it.

    >>> headline({"test/ndcg@5": 0.1, "test/ndcg@10": 0.2, "test/ndcg@20": 0.3}), headline({"tokenizer/items": 9})
    ('test/ndcg@10', None)
    """
    parts = [(name, name.rpartition("ndcg@")[2]) for name in final if name.startswith("test/") and "ndcg@" in name]
    found = {
        int(cutoff): name for name, cutoff in parts if cutoff.isdigit()
    }  # not those of ties, as in ndcg@10_optimistic
    return found.get(10) or (found[max(found)] if found else None)


def metrics_of(final: Mapping[str, Any], history: list[dict[str, Any]], started: int, ended: int) -> Iterator[Point]:
    """Final figures, then one point an epoch of everything that the history holds. started, ended: milliseconds since 1970."""
    # What comes first is what MLflow shows first where it must choose.
    first = headline(final)
    for name in [*([first] if first else []), *(name for name in final if name != first)]:
        value = final[name]
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield Point(metric_name(name), float(value), ended, 0)
    clock = float(started)
    for epoch in history:
        clock += 1000 * (epoch.get("seconds/train", 0.0) + epoch.get("seconds/validation", 0.0))
        for name, value in epoch.items():
            if name != "epoch":
                yield Point(metric_name(f"epoch/{name}"), float(value), int(clock), int(epoch["epoch"]))


#: Parts of a config that say nothing on the run, and tags or figures of it that say more.
NO_PARAMETERS = ("tracking", "runs_dir", "cache_dir")


def parameters_of(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The config as dotted keys, named as on the command line; ``model.name`` is ``model`` and so on.

    What is not set, and the settings of auxiliaries that are not used, are left out: they would stand between those that differ.
    """
    kept = {key: value for key, value in config.items() if key not in NO_PARAMETERS}
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
) -> dict[str, str]:
    """What a run is found by. The names that begin with ``mlflow.`` fill columns of MLflow's own table."""
    versions = source.get("versions", {})
    tags = {
        NAME_TAG: key,
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


def sweep_tags(name: str, command: list[str], commit: str | None) -> dict[str, str]:
    """Of the run that stands for a sweep, called after what it varies. name: where it varies nothing."""
    varied = " ".join(word for word in command if "," in word or "(" in word)
    name = f"sweep {varied or name}"[:NAME_LENGTH]
    return {NAME_TAG: name, "recbench.sweep": " ".join(command), **common_tags(commit)}


def common_tags(commit: str | None) -> dict[str, str]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without a table of users
        user = "unknown"
    code = {"git.commit": commit, "mlflow.source.git.commit": commit} if commit else {}
    return {"mlflow.user": user, "mlflow.source.name": "recbench", "mlflow.source.type": "LOCAL", **code}
