"""A model as a ``torch.export`` program, and the proof that it scores as the model does.

The program takes right-padded histories of a fixed width, what the model reads of them (``read_length``), and any number of them: items [B, L],
lengths [B] and, where the model reads them, timestamps [B, L] and behaviours [B, L]. It returns scores [B, n_items + 1], column 0 being the pad.
The weights, the item table among them, are inside.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from recbench.core.errors import UserError
from recbench.data.batches import Batch
from recbench.models.base import Recommender

#: How far a score of the program may lie from the model's: ABSOLUTE + RELATIVE * |score|.
ABSOLUTE, RELATIVE = 1e-5, 1e-4

#: Inputs beside items and lengths, by what a model requires.
OPTIONAL = ("timestamps", "behaviours")
#: The number of no user.
NOBODY = -1


class Scorer(nn.Module):
    """A model behind tensors alone, in the order of ``input_names``."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model = model

    def forward(self, items: Tensor, lengths: Tensor, *others: Tensor) -> Tensor:
        given = dict(zip(input_names(self.model)[2:], others, strict=True))
        times = given.get("timestamps", torch.zeros_like(items))
        # A model that knows its users by number is asked for nobody.
        return self.model.score(
            Batch(items, times, lengths, torch.zeros_like(lengths), behaviours=given.get("behaviours"))
        )


def input_names(model: Recommender) -> list[str]:
    """The inputs of a model's program, in order."""
    return ["items", "lengths", *(name for name in OPTIONAL if name in type(model).requires)]


def inputs_of(model: Recommender, batch: Batch, width: int) -> tuple[Tensor, ...]:
    """A batch as the program takes it, padded to ``width`` events."""
    wide = {
        name: nn.functional.pad(value, (0, width - value.shape[1])) if value.ndim == 2 else value
        for name in input_names(model)
        if (value := getattr(batch, name)) is not None
    }
    missing = [name for name in input_names(model) if name not in wide]
    if missing:
        raise UserError(f"the data of this run have no {' and '.join(missing)}, which the model reads")
    return tuple(wide.values())


def export_model(model: Recommender, name: str, batch: Batch, width: int) -> ExportedProgram:
    """The program of a model. batch: example histories. Raises UserError with the reason for a model that cannot be exported."""
    if model.gives_lists:
        raise UserError(
            f"'{name}' cannot be exported: it answers with the list that its search over item codes ends at, and gives no scores for a program "
            "to return; recbench recommend serves it"
        )
    if model.scores_candidates:
        raise UserError(
            f"'{name}' cannot be exported: it puts the items of another model in a new order by reading their texts, which is no program of tensors; "
            "recbench recommend serves it"
        )
    own_storage(model)
    example = inputs_of(model, twice(batch), width)
    dynamic = tuple({0: Dim("batch", min=1)} for _ in example)
    names = input_names(model)
    shapes = {"items": dynamic[0], "lengths": dynamic[1], "others": dynamic[2:]} if len(names) > 2 else dynamic
    try:
        with quiet(), torch.no_grad():
            model.eval().score(batch)  # what a model computes once and keeps is there then
            return torch.export.export(Scorer(model), example, dynamic_shapes=shapes)
    except Exception as error:
        raise UserError(f"'{name}' cannot be exported: {reason(error)}; recbench recommend serves it") from error


@torch.no_grad()
def own_storage(model: nn.Module) -> None:
    """Give each tensor of a model memory of its own, in row order. Stored weights are slices of one mapped file, an empty one among them, and torch
    cannot save a program of such."""
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.detach().clone(memory_format=torch.contiguous_format)


def reason(error: Exception) -> str:
    """Why a model cannot be exported, in a line, from what torch says."""
    text = str(error)
    if "data-dependent" in text or "DataDependent" in type(error).__name__:
        place = re.search(r"Caused by: \(\S*?(\w+\.py):(\d+) in (\S+)\)", text)
        where = f" ({place[1]} line {place[2]}, {place[3]})" if place else ""
        return f"its work depends on the values of a history, not on their number alone (data-dependent control flow){where}"
    return (text.strip() or type(error).__name__).splitlines()[0][:200]


def twice(batch: Batch) -> Batch:
    """A batch of at least two rows: of a single one torch would believe that there is never another number."""
    if len(batch) > 1:
        return batch
    rows = torch.zeros(2, dtype=torch.int64)
    return Batch(
        batch.items[rows],
        batch.timestamps[rows],
        batch.lengths[rows],
        batch.user[rows],
        behaviours=None if batch.behaviours is None else batch.behaviours[rows],
    )


@torch.no_grad()
def largest_difference(
    program: ExportedProgram | Callable[..., Tensor], model: Recommender, batches: Sequence[Batch], width: int
) -> float:
    """The largest difference between a score of the program and the model's own, over batches of any size.

    program: of torch, or any function of its inputs. The model sees the batches as they are, the program padded. Raises UserError if a difference is
    outside of the tolerance.
    """
    module, largest = program.module() if isinstance(program, ExportedProgram) else program, 0.0
    for batch in batches:
        nobody = replace(batch, user=torch.full_like(batch.user, NOBODY)) if type(model).reads_users else batch
        expected = model.score(nobody).float()[:, 1:]
        found = module(*inputs_of(model, batch, width)).float()[:, 1:]
        if found.shape != expected.shape or not torch.allclose(found, expected, rtol=RELATIVE, atol=ABSOLUTE):
            raise UserError(
                f"the program does not score as the model does (shapes {tuple(found.shape)} and {tuple(expected.shape)}, largest difference "
                f"{float((found - expected).abs().nan_to_num(torch.inf).max()) if found.shape == expected.shape else torch.nan:.3g}, "
                f"tolerance {ABSOLUTE:g} + {RELATIVE:g} times the score); nothing was written"
            )
        finite = expected.isfinite()
        largest = max(largest, float((found - expected)[finite].abs().max()) if finite.any() else 0.0)
    return largest


@contextmanager
def quiet() -> Iterator[None]:
    """torch.export tells at length, in logs and warnings, what the error says again."""
    log = logging.getLogger("torch")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
