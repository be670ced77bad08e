"""What a contrastive auxiliary is: the terms that it adds to the loss of a sequence model, whatever the model and whatever else is in its loss.

A history is represented by the model's state at its last event [B, D], which is what the model would rank with. Our models are trained at every
position of a window; an auxiliary compares whole windows, so of each it takes the last position, where the papers have one row for every prefix
and compare them all. (``n_contrasts=256`` compares so many prefixes of all windows at a step, as a published batch does.)
An epoch therefore compares as many histories as there are windows (on Beauty one for every six targets). The rows of
a batch are alike in length, so length alone tells no pair from another.

The papers' encoder is RecBole's SASRec: a norm of the input, norms behind each residual (post-norm) and GELU. Here an auxiliary stands beside
any model. Beside ``sasrec`` the encoder is ours: norms before each part (pre-norm) and ReLU. So the published numbers are not this encoder's.

Shapes: B rows of a batch, L positions, D width of the states.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from recbench.core.errors import UserError
from recbench.data.batches import Batch, WindowDataset
from recbench.models.auxiliary import OF_USERS_AND_ITEMS, add_config, check_auxiliaries, settings_of
from recbench.models.base import Recommender
from recbench.models.sequence_model import SequenceModel
from recbench.models.term_config import TermConfig
from recbench.objectives.contrastive.prefixes import Prefixes


class Auxiliary(nn.Module):
    """Terms beside a model's loss. Its parameters are trained with the model and not stored with it.

    At every step ``draw`` is called once, then ``terms``, and after the model has moved ``after_step``.
    """

    #: What it can stand beside, and what any other model lacks, in words.
    of: ClassVar[type[Recommender]] = SequenceModel
    lacks: ClassVar[str] = "no state of a history"

    def start_epoch(self, epoch: int, generator: torch.Generator) -> None:
        """As ``Recommender.start_epoch``."""

    def draw(self, batch: Batch) -> None:
        """Choose what the histories of a training batch are compared with."""
        raise NotImplementedError

    def own_loss(self, model: SequenceModel, batch: Batch) -> Tensor | None:
        """The model's own loss of a training batch, from an auxiliary that needs more of that pass than the loss; None: it needs nothing of it.

        Asked after ``draw``, of a model without a teacher.
        """
        return None

    def terms(self, model: SequenceModel) -> dict[str, Tensor]:
        """Weighted scalar terms by name, for what was drawn."""
        raise NotImplementedError

    def after_step(self, model: SequenceModel) -> bool:
        """What is to be done when the model has moved; True if it shall move once more by the same loss on the same batch."""
        return False


_auxiliaries: dict[str, Callable[..., Auxiliary]] = {}


def register(name: str, config: type[TermConfig] | None = None) -> Callable[[type[Auxiliary]], type[Auxiliary]]:
    """Class decorator: the auxiliary of that name, built as ``auxiliary(config, model, dataset)``.

    config: of an auxiliary that another package adds. Ours stand in ``models/auxiliary.py`` and in the module of their name. Raises ValueError
    if the name belongs to another auxiliary.
    """

    def decorate(auxiliary: type[Auxiliary]) -> type[Auxiliary]:
        if config is not None:
            add_config(name, config)
        _auxiliaries[name] = auxiliary
        return auxiliary

    return decorate


def build_auxiliaries(model: Recommender, dataset: WindowDataset) -> list[Auxiliary]:
    """The auxiliaries that a model's config names, for training on these windows. Raises UserError where one cannot be."""
    names: list[str] = getattr(model.config, "auxiliary", [])
    check_auxiliaries(model.config)
    kinds = [_class_of(name) for name in names]
    for name, kind in zip(names, kinds, strict=True):
        if not isinstance(model, kind.of):
            raise UserError(
                f"the model '{model.config.name}' has {kind.lacks} that model.auxiliary={name} could compare"
            )
    return [kind(settings_of(model.config, name), model, dataset) for name, kind in zip(names, kinds, strict=True)]


def _class_of(name: str) -> Any:
    if name not in _auxiliaries:
        room = "auxiliary" if name in OF_USERS_AND_ITEMS else "contrastive"
        importlib.import_module(f"recbench.objectives.{room}.{name}")
    return _auxiliaries[name]


def representations(model: SequenceModel, histories: Batch) -> Tensor:
    """[B, D]: the last layer's state at the last event of each history."""
    return model.last_states(histories)[-1]


def representations_of(model: SequenceModel, groups: list[Batch], place: Tensor | None = None) -> Tensor:
    """[B, D] of histories that lie in groups, in the order ``place`` [B], which says where each stands among the rows of all groups."""
    made = torch.cat([representations(model, group) for group in groups])
    return made if place is None else made[place]


def compared(batch: Batch, prefixes: Prefixes, count: int) -> list[Batch]:
    """What an auxiliary compares at a step, in groups of like length: the batch itself, or ``count`` drawn prefixes (``n_contrasts``)."""
    if not count:
        return [batch]
    return prefixes.grouped(prefixes.some(count), batch.items.device)[0]
