"""The one import that plug-in packages need, and the only one that is promised to stay: ``from recbench.models import SequenceModel, register``.

It offers what a package needs to add a model, a data source, a protocol, a metric, a distillation objective or an auxiliary; see
``docs/extending.md``. ``import recbench.models`` alone is light: a name is imported when it is first asked for. Type checkers read
``__init__.pyi`` beside this file.
"""

from __future__ import annotations

import importlib
from typing import Any

#: name -> module that holds it, or ``module:name`` where it has another name there.
_PLACES = {
    # Models.
    "Batch": "recbench.data.batches",
    "CatalogueLoss": "recbench.nn.losses.catalogue",
    "ClosedForm": "recbench.models.closed_form",
    "ItemTokenizer": "recbench.models.tokenizers.tokenizer",
    "ModelConfig": "recbench.models.base",
    "ModelContext": "recbench.models.base",
    "Recommender": "recbench.models.base",
    "SequenceConfig": "recbench.models.sequence_model",
    "SequenceModel": "recbench.models.sequence_model",
    "TokenizerConfig": "recbench.models.tokenizers.tokenizer",
    "TrainingData": "recbench.data.training",
    "register": "recbench.models.registry",
    # Data sources and protocols.
    "Cases": "recbench.data.cases",
    "DataConfig": "recbench.data.schema",
    "PATH_ONLY": "recbench.data.schema",
    "PreparedData": "recbench.data.prepared",
    "ProtocolConfig": "recbench.data.protocol",
    "RawData": "recbench.data.schema",
    "SplitParts": "recbench.data.cases",
    # Metrics.
    "RankedLists": "recbench.evaluation.added_metrics",
    # Distillation objectives.
    "DistillationConfig": "recbench.objectives.distillation.configs",
    "Objective": "recbench.objectives.distillation.base",
    "StudentOnlyConfig": "recbench.objectives.distillation.configs",
    "TaughtConfig": "recbench.objectives.distillation.configs",
    "register_distillation": "recbench.objectives.distillation.base:register",
    # Auxiliaries.
    "Auxiliary": "recbench.objectives.contrastive.base",
    "PairConfig": "recbench.models.term_config",
    "WindowDataset": "recbench.data.batches",
    "register_auxiliary": "recbench.objectives.contrastive.base:register",
    # All of them: a mistake of the user, and the marks of config fields that stay out of keys (LATER at their default, NO_KEY always).
    "LATER": "recbench.core.key_fields",
    "NO_KEY": "recbench.core.key_fields",
    "UserError": "recbench.core.errors",
}

__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'recbench.models' has no attribute '{name}'")
    module, _, own_name = _PLACES[name].partition(":")
    value = getattr(importlib.import_module(module), own_name or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
