"""SRA-CL without a language model: what is alike by text makes the views and the partners of a contrast [Cui et al., 2025].

    N(i)      the k items nearest to item i by the cosine of their texts, without i itself and without exact twins
    L_item    InfoNCE of two views of a history, each with a share of its events exchanged for draws from N(x), by softmax of the cosines
    N(w)      the k windows nearest to window w by the cosine of their mean text, of other users
    L_user    InfoNCE of a history and of a draw from N(w)
    L = L_rec + weight * L_item + user_weight * L_user

Where this deviates: the texts are those of the items alone, as ``data.text`` encodes them, where the paper has a language model write of users and
items; a partner is one draw from N(w) by its cosine, which costs one forward pass, in place of k states mixed by a learned attention. In the released
code the histories that texts are written from reach into validation, the nearest prefixes are mostly the same user's, and twins are their own
neighbours; not so here.

``neighbours: random`` draws them evenly, ``popularity`` takes the list of another item that is met as often: the controls.

Shapes: V = n_items + 1, W windows, k neighbours, E width of the texts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recbench.core.errors import UserError
from recbench.data.batches import Batch, WindowDataset, gather
from recbench.data.cases import flat_ranges
from recbench.models.auxiliary import SRACLConfig
from recbench.models.sequence_model import SequenceModel
from recbench.objectives.contrastive.augment import TRAINING_ONLY
from recbench.objectives.contrastive.base import Auxiliary, register, representations, representations_of
from recbench.objectives.contrastive.groups import groups_of_like_length
from recbench.objectives.contrastive.info_nce import info_nce

#: Two texts whose cosine is above this are the same: twins are no neighbours.
TWIN = 0.999
#: Cosines held at a time.
COSINES_AT_ONCE = 1 << 23


@register("sra_cl")
class SRACL(Auxiliary):
    """See the head of this file. Raises UserError where there are no texts."""

    batch: Batch
    views: tuple[Batch, Batch]
    partners: tuple[list[Batch], Tensor]

    def __init__(self, config: SRACLConfig, model: SequenceModel, dataset: WindowDataset) -> None:
        super().__init__()
        vectors = model.lent_text_vectors
        if vectors is None:
            raise UserError("model.auxiliary=[sra_cl] reads the items' texts, which these data do not have")
        self.config, self.dataset = config, dataset
        texts = F.normalize(vectors.float().cpu(), dim=1)
        counts = item_counts(dataset)
        near, cosine = nearest_items(texts, config.k)
        if config.neighbours != "text":
            generator = torch.Generator().manual_seed(0)
            near = other_lists(near, counts, config.neighbours, generator)
        self.near = near
        self.chance = (cosine / config.temperature).softmax(1)
        self.windows_near, of_window = nearest_windows(texts, dataset, config.k)
        if config.neighbours != "text":
            self.windows_near = torch.randint(
                len(dataset), self.windows_near.shape, generator=torch.Generator().manual_seed(1)
            )
        self.window_chance = (of_window / config.temperature).softmax(1)

    @property
    def is_idle(self) -> bool:
        """Whether both weights are 0: then nothing is drawn, so that training is the plain one."""
        return not (self.config.weight or self.config.user_weight)

    def draw(self, batch: Batch) -> None:
        self.batch = batch
        if self.is_idle:
            return
        self.views = self._view(batch), self._view(batch)
        assert batch.windows is not None, "only batches of training windows have neighbours"
        rows = batch.windows
        place = torch.multinomial(self.window_chance[rows], 1)
        self.partners = self._windows(self.windows_near[rows].gather(1, place)[:, 0].numpy(), batch.items.device)

    def _view(self, batch: Batch) -> Batch:
        items = batch.items.cpu()
        chosen = (torch.rand(items.shape) < self.config.replaced) & batch.mask.cpu()
        own = items[chosen]
        place = torch.multinomial(self.chance[own], 1)[:, 0] if len(own) else own
        drawn = items.clone()
        drawn[chosen] = self.near[own, place]
        without: dict[str, Any] = dict.fromkeys(TRAINING_ONLY)
        return replace(batch, items=drawn.to(batch.items.device), **without)

    def _windows(self, numbers: np.ndarray, device: torch.device) -> tuple[list[Batch], Tensor]:
        """The windows of these numbers, in groups of like length, and where each stands among them."""
        windows = self.dataset.windows
        groups = groups_of_like_length(windows.length[numbers])
        place = torch.from_numpy(np.argsort(np.concatenate(groups))).to(device)
        made = [
            gather(self.dataset.data, windows.user[n], windows.start[n], windows.length[n], with_targets=True).to(
                device
            )
            for n in (numbers[rows] for rows in groups)
        ]
        return made, place

    def terms(self, model: SequenceModel) -> dict[str, Tensor]:
        if self.is_idle:
            return {}
        one, two = (representations(model, view) for view in self.views)
        found = {"sra_cl_items": self.config.weight * info_nce(one, two, self.config.temperature)}
        if self.config.user_weight:
            own, other = representations(model, self.batch), representations_of(model, *self.partners)
            found["sra_cl_users"] = self.config.user_weight * info_nce(own, other, self.config.temperature)
        return found


def item_counts(dataset: WindowDataset) -> np.ndarray:
    """[V] how often each item is an input of a training window."""
    _, place = flat_ranges(dataset.windows.start, dataset.windows.start + dataset.windows.length)
    return np.bincount(dataset.data.items[place], minlength=dataset.data.n_items + 1)


def nearest_items(texts: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(neighbours [V, k'], their cosines [V, k']) of unit vectors [V, E]; never an item itself, its twin, or the pad. k' is k, or fewer."""
    k = min(k, len(texts) - 2)
    found, cosines = [], []
    for rows in torch.arange(len(texts)).split(max(1, COSINES_AT_ONCE // len(texts))):
        products = texts[rows] @ texts.T
        products[:, 0] = -torch.inf
        products[products > TWIN] = -torch.inf
        products[torch.arange(len(rows)), rows] = -torch.inf
        best = products.topk(k, dim=1)
        found.append(
            torch.where(best.values.isfinite(), best.indices, rows[:, None])
        )  # who has only twins keeps himself
        cosines.append(best.values.nan_to_num(neginf=-1.0))
    return torch.cat(found), torch.cat(cosines)


def other_lists(near: Tensor, counts: np.ndarray, rule: str, generator: torch.Generator) -> Tensor:
    """The neighbours [V, k] exchanged: drawn evenly from all items, or the list of the item next in popularity (training counts [V])."""
    if rule == "random":
        return torch.randint(1, len(near), near.shape, generator=generator)
    order = torch.from_numpy(1 + np.argsort(counts[1:], kind="stable"))
    found = near.clone()
    found[order] = near[order.roll(1)]
    return found


def nearest_windows(texts: Tensor, dataset: WindowDataset, k: int) -> tuple[Tensor, Tensor]:
    """(numbers [W, k'], cosines [W, k']) of the windows of other users whose mean text is nearest."""
    windows = dataset.windows
    n = len(windows.length)
    row, place = flat_ranges(windows.start, windows.start + windows.length)
    items = torch.from_numpy(np.asarray(dataset.data.items[place], dtype=np.int64))
    offsets = torch.from_numpy(np.searchsorted(row, np.arange(n)))
    means = F.normalize(F.embedding_bag(items, texts, offsets, mode="mean"), dim=1)
    user = torch.from_numpy(windows.user.astype(np.int64))
    k = min(k, n - 1)
    found, cosines = [], []
    for rows in torch.arange(n).split(max(1, COSINES_AT_ONCE // n)):
        products = means[rows] @ means.T
        products[user[rows][:, None] == user[None]] = -torch.inf
        best = products.topk(k, dim=1)
        found.append(best.indices)
        cosines.append(best.values.nan_to_num(neginf=-1.0))
    return torch.cat(found), torch.cat(cosines)
