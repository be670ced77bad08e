"""The settings of ``data=impressions``, and how FuxiCTR and BARS describe a data set: their column meta as settings of ours.

An entry of their ``dataset_config.yaml`` names three files, a label column and ``feature_cols``, each with a name or several, a type (categorical,
numeric, sequence, meta) and whether it is active. ``min_categr_count`` belongs to a protocol here: set ``protocol.rare`` to it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from recbench.core.errors import UserError, nearest
from recbench.core.yaml_text import load_yaml
from recbench.data.schema import PATH_ONLY, DataConfig, base_of
from recbench.data.sources.table_config import GivenParts

log = logging.getLogger(__name__)


@dataclass
class ImpressionColumns:
    """Names of columns; null where there is none. Without a user column each row is a user of its own. labels: further labels, for several tasks."""

    user: str | None = "user"
    item: str | None = "item"
    timestamp: str | None = None
    label: str = "label"
    labels: list[str] = field(default_factory=list)


@dataclass
class ImpressionsConfig(DataConfig):
    """fields: the columns that are fields (empty: all others). numbers: those of them that are numbers. several: those of several values,
    with several_separator between. meta, dataset: a dataset_config.yaml of FuxiCTR and the entry in it; it then says files, fields and label."""

    name: str = "impressions"
    k_core: int = 0
    path: str | None = field(default=None, metadata=PATH_ONLY)
    parts: GivenParts = field(default_factory=GivenParts)
    columns: ImpressionColumns = field(default_factory=ImpressionColumns)
    fields: list[str] = field(default_factory=list)
    numbers: list[str] = field(default_factory=list)
    several: list[str] = field(default_factory=list)
    several_separator: str = "^"
    ignore: list[str] = field(default_factory=list)
    separator: str = ","
    timestamp_format: str | None = None
    meta: str | None = field(default=None, metadata=PATH_ONLY)
    dataset: str | None = None

    def validate(self) -> None:
        super().validate()
        if (self.meta is None) != (self.dataset is None):
            raise UserError("data.meta names the file and data.dataset the entry in it; give both, or neither")
        if self.meta is None and not self.parts.files() and self.path is None:
            raise UserError(
                "data=impressions needs data.path, data.parts.train and data.parts.test, or data.meta with data.dataset"
            )
        if self.parts.files() and not (self.parts.train and self.parts.test):
            raise UserError("data.parts needs train and test at least")

    def labels(self) -> list[str]:
        named = self.dataset or self.category or Path(str(self.path or self.parts.train or "")).name.split(".")[0]
        return [word for word in (self.name, self.version, named) if word]


def described(config: ImpressionsConfig) -> ImpressionsConfig:
    """The config with what ``data.meta`` says in it. Raises UserError for an entry that is not there, or lacks what is needed."""
    if config.meta is None:
        return config
    path = base_of(config) / Path(config.meta).expanduser()
    if not path.is_file():
        raise UserError(f"data.meta: there is no file {path}")
    entries = load_yaml(path.read_text(encoding="utf-8"))
    if not isinstance(entries, Mapping) or config.dataset not in entries:
        known = list(entries) if isinstance(entries, Mapping) else []
        raise UserError(
            f"data.dataset: {path.name} has no entry '{config.dataset}'; {nearest(str(config.dataset), known)}"
        )
    entry = entries[config.dataset]
    missing = [key for key in ("train_data", "test_data", "feature_cols", "label_col") if not entry.get(key)]
    if missing:
        raise UserError(f"{path.name}: the entry '{config.dataset}' lacks {', '.join(missing)}")
    columns = list(_columns(entry["feature_cols"]))
    told = [kind for _, kind, _ in columns if kind not in ("categorical", "numeric", "sequence")]
    if told:
        raise UserError(
            f"{path.name}: the column type '{told[0]}' is not known here; it can be categorical, numeric or sequence"
        )
    separators = {separator for _, kind, separator in columns if kind == "sequence"}
    if len(separators) > 1:
        raise UserError(
            f"{path.name}: its sequences have several separators ({' '.join(sorted(separators))}), and one is known here"
        )
    rare = entry.get("min_categr_count", 1)
    if rare > 1:
        log.warning(
            "%s: min_categr_count is %d; set protocol.rare=%d to treat rare values as FuxiCTR does",
            path.name,
            rare,
            rare,
        )
    label = entry["label_col"]
    labels = [str(part["name"]) for part in (label if isinstance(label, list) else [label])]
    files = {
        ours: entry.get(theirs)
        for ours, theirs in (("train", "train_data"), ("validation", "valid_data"), ("test", "test_data"))
    }
    folder = path.parent
    roles = config.columns
    role_names = {roles.user, roles.item, roles.timestamp}
    return replace(
        config,
        raw_dir=None,
        parts=GivenParts(**{part: str(_found(folder, str(name))) for part, name in files.items() if name}),
        columns=replace(roles, label=labels[0], labels=labels[1:]),
        fields=[name for name, _, _ in columns if name not in role_names],
        numbers=[name for name, kind, _ in columns if kind == "numeric"],
        several=[name for name, kind, _ in columns if kind == "sequence"],
        several_separator=separators.pop() if separators else config.several_separator,
    )


def _found(folder: Path, name: str) -> Path:
    """A file as the entry names it: from the folder of the entry, or by its bare name in it, also as .gz."""
    for path in (folder / name, folder / Path(name).name):
        for candidate in (path, path.with_name(path.name + ".gz")):
            if candidate.is_file():
                return candidate
    return folder / name


def _columns(feature_cols: Any) -> Iterator[tuple[str, str, str]]:
    """(name, type, separator) of every active column."""
    for column in feature_cols:
        if column.get("active", True) is False or column.get("type") == "meta":
            continue
        names = column["name"] if isinstance(column["name"], list) else [column["name"]]
        for name in names:
            yield str(name), str(column.get("type", "categorical")), str(column.get("splitter", "^"))
