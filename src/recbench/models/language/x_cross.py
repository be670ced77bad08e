"""X-Cross: what adapters have learned on other data sets, put together for a new one [Hadad et al., SIGIR 2025, arXiv 2504.20859].

What is different about this model: it is ``llamarec``, whose prompt and letters these are, but trains no adapter. Those of finished ``llamarec`` runs
on other data sets (``sources``) run side by side through the one frozen backbone, and after each layer a small integrator mixes what they make of a
position. The integrators alone are trained, on the new data.

    x_m = h_m + z_mm h_m + sum_{j != m} z_mj (h_j - h_m),   z = W_l [h_1; ...; h_n] + b_l        (``nn.language.cross_backbone``)

Glossary (paper -> here): domain-specific models -> ``sources``; integrator -> ``Integrated.mix``; scaling and interaction factors -> z_mm and z_mj.

Deviations, and why:
- How scaling and interaction factors are combined is ours: no code is public, and the text does not say. W_l and b_l are 0 at the start, so that
  each stream begins as its own source.
- The streams' mean behind the last layer is read.
- A retriever's candidates by letters, as in ``llamarec``; the paper scores candidates by an encoder.
- ``merge: shares`` learns one share for each adapter and mixes the adapters themselves, in one stream: the control that says whether the layers
  matter. ``sources: []`` has ``n_random`` drawn adapters: the control that says whether the sources do. ``llamarec`` itself, with its own adapter on
  the same rows, is the third.
- ``tiny`` is drawn anew in each run, so no two runs share one: sources need a named backbone. With tiny, all weights are trained, to show the parts.

Shapes: n sources, B rows, L positions, d width.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from recbench.core.errors import UserError
from recbench.core.key_fields import NO_KEY
from recbench.core.run_folder import RunFolder
from recbench.models.base import ModelContext
from recbench.models.checks import check_choices, check_counts
from recbench.models.language.llamarec import LlamaRec, LlamaRecConfig
from recbench.models.registry import register
from recbench.models.weights import load_tensors
from recbench.nn.language.adapter_bank import MixedLinear
from recbench.nn.language.cross_backbone import MERGES, CrossBackbone
from recbench.nn.text.text_reader import TextReader

#: Keys that a source must share, or its adapters mean something else here.
SHARED = ("backbone", "n_layers", "init", "lora_rank", "lora_alpha", "lora_targets")


@dataclass
class XCrossConfig(LlamaRecConfig):
    """The keys of llamarec, and where the adapters come from. sources: folders of finished runs. source_keys: the runs' own keys, which enter the key
    of this one; filled in."""

    name: str = "x_cross"
    sources: list[str] = field(default_factory=list, metadata=NO_KEY)
    source_keys: list[str] = field(default_factory=list)
    n_random: int = 2
    merge: str = "layers"

    def __post_init__(self) -> None:
        if self.sources:
            self.source_keys = [Path(folder).expanduser().resolve().name for folder in self.sources]

    @property
    def n_streams(self) -> int:
        return len(self.source_keys) or self.n_random


@register("x_cross", XCrossConfig)
class XCross(LlamaRec):
    """See the head of this file."""

    @classmethod
    def dependencies(cls, config: Any) -> dict[str, dict[str, Any]]:
        _check(config)
        for folder in config.sources:
            check_source(config, folder)
        return super().dependencies(config)

    def __init__(self, config: XCrossConfig, context: ModelContext) -> None:
        _check(config)
        super().__init__(config, context)
        self.cross.reset()  # tiny draws all its weights
        # The weights of a stored run hold the adapters, so the sources need not be there any more.
        if context.dependencies:
            for number, folder in enumerate(config.sources):
                check_source(config, folder)
                try:
                    self.cross.take(number, load_tensors(RunFolder(Path(folder).expanduser()).weights))
                except UserError as error:
                    raise UserError(f"model.sources: {folder}: {error}") from error

    def built_reader(self) -> TextReader:
        config = self.config
        return TextReader(config, config.text_buckets, self.learns, config.dropout, CrossBackbone)

    @property
    def cross(self) -> CrossBackbone:
        assert isinstance(self.reader.backbone, CrossBackbone)
        return self.reader.backbone

    def own_state(self) -> dict[str, Tensor]:
        found = {name: part for name, part in self.named_modules() if isinstance(part, MixedLinear)}
        adapters = {f"{name}.{half}": getattr(part, half) for name, part in found.items() for half in ("down", "up")}
        return super().own_state() | {name: value.detach() for name, value in adapters.items()}


def check_source(config: XCrossConfig, folder: str) -> None:
    """Raise UserError unless a folder holds a finished run of llamarec with the same backbone and adapters of the same form."""
    said, run = f"model.sources: {folder}", RunFolder(Path(folder).expanduser())
    if not run.path.is_dir() or not run.finished:
        raise UserError(f"{said} holds no finished run; name a folder of runs/, of model=llamarec on other data")
    keys = run.config()["model"]
    if keys["name"] != "llamarec":
        raise UserError(f"{said} is a run of '{keys['name']}'; adapters are taken from runs of llamarec")
    for key in SHARED:
        if keys[key] != getattr(config, key):
            raise UserError(
                f"{said} has model.{key}={keys[key]}, and this run {getattr(config, key)}; they must be the same"
            )


def _check(config: XCrossConfig) -> None:
    check_choices(config, {"merge": MERGES})
    check_counts(config, "n_random", "lora_rank")
    if config.source_keys and (config.backbone == "tiny" or config.init != "pretrained"):
        raise UserError(
            "adapters of other runs fit a backbone that all of them share: name one in model.backbone, with model.init=pretrained"
        )
    twice = {key for key in config.source_keys if config.source_keys.count(key) > 1}
    if twice:
        raise UserError(f"model.sources names the run {min(twice)} twice")
    if config.lora_targets == ["all"]:
        raise UserError("model.lora_targets=[all] is not for 'x_cross'; name the layers, as in [q_proj,v_proj]")
