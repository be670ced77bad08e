"""What a run needs: the runs that it stands on, the key by which it is found, and what its data must offer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from recbench.config.run import RunConfig
from recbench.config.schemas import compose_model
from recbench.config.tuned import OFF, tuned_for_part
from recbench.core.errors import UserError
from recbench.data.features import has_features
from recbench.data.knowledge import has_knowledge
from recbench.data.store import PreparedData
from recbench.data.text_config import FILE
from recbench.data.user_attributes import has_user_attributes
from recbench.data.user_text import has_user_text
from recbench.experiment.context import RunContext
from recbench.experiment.teacher import teacher_config
from recbench.experiment.warm_start import without_source
from recbench.models.laid_over import needs_of, parts_of
from recbench.models.registry import lookup
from recbench.models.selected_targets import selection_part

#: Training keys of a run that is trained on all its events.
UNSELECTED: dict[str, Any] = {"selection": "none", "selection_keys": {}, "equal_steps": False}

#: How data come to have what they lack.
MENDS = {
    "features": "name vectors of the items, as in data.features.image=FILE or data.features.text=titles",
    "knowledge": "name triples, as in data.knowledge.path=FILE",
    "user_attributes": "name a table of users, as in data.users.path=FILE",
    "ratings": "keep them where the source has them: data.keep=[ratings]",
    "reviews": "keep them where the source has them: data.keep=[reviews]",
    "user_text": "name a table of users and its column of texts: data.users.path=FILE data.users.text=COLUMN",
}
#: Role of the run that chose the number of epochs.
EPOCHS = "epochs"


def dependency_configs(config: RunConfig) -> dict[str, RunConfig]:
    """The runs a config needs, by role. A dependency shares data, protocol and seed, and is never distilled itself. Raises UserError for
    wrong keys of theirs, and where one cannot teach the other.

    A compressed run needs the same run uncompressed, which in turn needs whatever that model needs. A run with ``protocol.fit_on_validation`` needs
    the same run without it.
    """
    if config.compression.name != "none":
        return {"original": config.uncompressed()}
    choosing = choosing_config(config)
    config = without_source(config)
    wanted = {
        name: (keys, f"model.{name}") for name, keys in parts_of(lookup(config.model.name).model, config.model).items()
    }
    chosen = selection_part(config.training)
    if chosen is not None:
        wanted["selection"] = chosen, "training.selection_keys"
        # What a run stands on is trained on all events, unless its own keys say otherwise.
        config = replace(config, training=replace(config.training, **UNSELECTED))
    found = {} if choosing is None else {EPOCHS: choosing}
    for name, (keys, where) in wanted.items():
        model, training = compose_model(keys, where, config.data.name, use_tuned=config.tuned.name != OFF)
        tuned = tuned_for_part(keys.get("model"), config.data.name, config.tuned)
        found[name] = config.undistilled(model=model, training=replace(config.training, **training), tuned=tuned)
        found[name].check()
    if hasattr(config.distillation, "teacher"):
        found["teacher"] = teacher_config(config)
        if not lookup(found["teacher"].model.name).model.ranks:
            raise UserError(
                f"{found['teacher'].model.name} ranks nothing, so it cannot teach; name another distillation.teacher.model"
            )
    config.distillation.check_models(config.model, found["teacher"].model if "teacher" in found else None)
    return found


def choosing_config(config: RunConfig) -> RunConfig | None:
    """The run whose validation chooses how many epochs a run with ``protocol.fit_on_validation`` is trained; None for any other run, and where
    validation has nothing to choose: a computed model, or one whose only validation comes after its last epoch."""
    model = lookup(config.model.name).model
    if not config.protocol.fit_on_validation or not model.trains_by_gradient or not model.ranks:
        return None
    if config.training.validate_every >= config.training.max_epochs:
        return None
    return replace(config, protocol=replace(config.protocol, fit_on_validation=False))


def check_dependencies(config: RunConfig) -> None:
    """Raise UserError for wrong keys of the runs that a config needs, and of those that they need, before any data are read."""
    for part in dependency_configs(config).values():
        check_dependencies(part)


def check_requirements(config: RunConfig, data: PreparedData) -> None:
    """Refuse data that lack what a model reads, by name, before anything is trained."""
    offered: dict[str, Callable[[], bool]] = {
        "timestamps": lambda: data.has_timestamps,
        "text": lambda: data.has_text,
        "text_vectors": lambda: data.has_text or config.data.text.encoder == FILE,
        "behaviours": lambda: data.has_behaviours,
        "features": lambda: has_features(config.data),
        "knowledge": lambda: has_knowledge(config.data),
        "user_attributes": lambda: has_user_attributes(config.data),
        "ratings": lambda: data.ratings is not None,
        "reviews": lambda: data.has_reviews,
        "user_text": lambda: has_user_text(config.data),
    }
    model = lookup(config.model.name).model
    needs = set(needs_of(model, config.model))
    if config.protocol.asks_clicks and model.reads_histories:
        needs.add("timestamps")  # without a clock nothing is known to come before a row
    missing = sorted(need for need in needs if not offered[need]())
    if "features" in needs and config.data.features.reads_titles and not offered["text_vectors"]():
        raise UserError(
            f"data.features.text=titles needs texts of the items, which data={config.data.name} does not have"
        )
    if missing:
        raise UserError(
            f"the model '{config.model.name}' needs {' and '.join(missing)}, which data={config.data.name} does not have"
            + "".join(f"; {MENDS[need]}" for need in missing if need in MENDS)
        )


def check_users(config: RunConfig, stage: RunContext) -> None:
    """Refuse a split that asks a model which holds a vector for each training user about users who have no training event."""
    kind = lookup(config.model.name).model
    if not kind.reads_users or config.model.cold_users != "refuse":
        return
    split = stage.split
    cold = split.train_end <= split.train_start
    for part, cases in (("validates", split.validation), ("tests", split.test)):
        n = int(cold[np.unique(cases.user)].sum())
        if n:
            raise UserError(
                f"{split.protocol_id} {part} {n:,} users without training events, for whom '{config.model.name}' has no vector; use "
                "protocol=holdout or leave_one_out, or model.cold_users=fold_in"
            )


def check_lists(config: RunConfig, stage: RunContext) -> None:
    """Refuse a search whose lists cannot be ranked under the protocol, or are shorter than a cutoff, before anything is trained."""
    name, cutoff = config.model.name, min(max(config.evaluation.cutoffs), stage.data.n_items)
    longest = lookup(name).model.longest_list(config.model)
    if longest is None:
        return
    if stage.split.test.candidates is not None:
        raise UserError(
            f"{stage.split.protocol_id} ranks given candidates, which the beams of '{name}' cannot; use model.decoder=exact, or "
            "protocol=leave_one_out"
        )
    if longest < cutoff:
        raise UserError(
            f"'{name}' finds at most {longest} items a user, fewer than the cutoff {cutoff}: raise model.beams or lower "
            "evaluation.cutoffs"
        )
