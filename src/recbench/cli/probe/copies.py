"""A catalogue in which each item stands twice, as it is and with its text rewritten: how the model of a run meets it, which of the two it prefers.

The rewritten copies of the items 1 .. I are the items I + 1 .. 2 I. A model whose items are made of text has a vector for a copy at once; one that
learns a row an item starts with rows as they are drawn. All that the run has learned stays.

Shapes: B users, I items of the data, K items of a list.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbench.config.run import RunConfig
from recbench.core.errors import UserError
from recbench.data.prepared import PreparedData
from recbench.data.text_config import FILE, TFIDF
from recbench.experiment.build import build_model
from recbench.experiment.context import RunContext
from recbench.models.base import Recommender
from recbench.models.sequence_model import SequenceModel
from recbench.nn.codes.item_vectors import TextVectors, scaled_like
from recbench.nn.text.template import template_texts
from recbench.nn.text.tfidf import tfidf_svd_of
from recbench.nn.text.vectors import text_vectors
from recbench.posthoc.probes.rewrites import rewritten
from recbench.posthoc.probes.sequences import MadeData


def doubled(stage: RunContext) -> RunContext:
    """The same events in a catalogue of twice as many items."""
    data = MadeData.like(stage.data)
    data.n_items = 2 * stage.data.n_items
    return RunContext(data, stage.split)


def check_copies(config: RunConfig) -> None:
    """Raise UserError for a run whose model cannot meet copies of its items."""
    model = config.model
    dealt = config.data.text.shuffle is not None or getattr(getattr(model, "pieces", None), "shuffle", False)
    if getattr(model, "items", "ids") not in ("ids", "text") or getattr(model, "heads", "none") != "none" or dealt:
        raise UserError(
            "copies need a model with model.items=text or ids, model.heads=none and texts that are not dealt anew"
        )
    if config.data.text.encoder == FILE:
        raise UserError("copies need an encoder that can read other texts; data.text.encoder=file cannot")


def model_with_copies(
    model: Recommender, config: RunConfig, stage: RunContext, twice: RunContext, how: str
) -> Recommender:
    """The model of a run, with vectors for copies. twice: ``doubled(stage)``. Raises UserError for a model that is none of histories."""
    if not isinstance(model, SequenceModel):
        raise UserError(f"the model '{config.model.name}' has no vectors of items, so it cannot meet copies of them")
    made = build_model(config, twice, {}, stored=True)
    n, own = stage.data.n_items, model.state_dict()
    tables = [name for name, part in model.named_modules() if isinstance(part, TextVectors)]
    texts, maps = ({f"{name}.{part}" for name in tables} for part in ("text", "map"))
    state: dict[str, Tensor] = {}
    for name, drawn in made.state_dict().items():
        known = own[name]
        if name in texts:
            known = torch.cat([known, vectors_of_copies(known, config, stage.data, how)])
        elif known.shape != drawn.shape and name not in maps:
            if (len(known), len(drawn)) != (n + 1, 2 * n + 1):
                raise UserError(
                    f"the model '{config.model.name}' has '{name}', of which nobody knows what it is for copies"
                )
            known = torch.cat([known, drawn[n + 1 :].to(known.device)])
        state[name] = known
    made.load_state_dict(state)
    return made


def vectors_of_copies(own: Tensor, config: RunConfig, data: PreparedData, how: str) -> Tensor:
    """[I, E] what the texts of the copies are to a model that reads ``own`` [I + 1, E]; the same row where the text is the same."""
    texts, _ = template_texts(data, config.data.text.template)
    said = rewritten(texts, how)
    settings = config.data.text
    vectors = text_vectors(data, settings, config.cache_dir, own.device)[1:]
    if settings.encoder == TFIDF:
        others = tfidf_svd_of(texts, said, settings.width)
    else:
        from recbench.nn.text.language_model import encoded

        others = encoded(said, settings, own.device)
    if settings.normalise:
        length = np.linalg.norm(others, axis=1, keepdims=True)
        others = np.divide(others, length, out=np.zeros_like(others), where=length > 0)
    found = scaled_like(torch.from_numpy(others.astype(np.float32)), vectors.cpu())
    same = torch.tensor([a == b for a, b in zip(texts, said, strict=True)])
    return torch.where(same[:, None], own[1:].cpu(), found).to(own.device)


def other_of(items: np.ndarray | Tensor, n: int) -> Any:
    """The copy of each item, the item of each copy; 0 of the pad."""
    return (items + n * (items <= n) - n * (items > n)) * (items > 0)


def preference(scores: Tensor, target: Tensor, seen: Tensor, n: int) -> dict[str, float]:
    """NDCG@10 sums of the targets [B] among the originals, and of their copies among the copies. scores [B, 2 I + 1]; seen [B, L] originals."""
    hidden = torch.zeros(len(scores), n + 1, dtype=torch.bool, device=scores.device).scatter_(1, seen, True)[:, 1:]
    found = {}
    for name, first in (("originals", 1), ("copies", n + 1)):
        part = scores[:, first : first + n]
        own = part.gather(1, target[:, None] - 1)
        others = part.masked_fill(hidden, -torch.inf).scatter(1, target[:, None] - 1, -torch.inf)
        rank = 1 + (others > own).sum(1) + (others == own).sum(1) / 2
        found[name] = float(torch.where(rank <= 10, 1 / torch.log2(rank + 1.0), 0.0).double().sum())
    return found


def share_of_copies(lists: np.ndarray, tied: np.ndarray, n: int, called: np.ndarray) -> float:
    """Of the places of lists [B, K], those of copies; an item whose other version has an equal score counts half. called [I] bool: for which pairs
    the original is called the copy (a control)."""
    real = lists > 0
    base = np.where(lists > n, lists - n, lists)
    is_copy = (lists > n) ^ called[np.maximum(base - 1, 0)]
    return float(np.where(tied, 0.5, is_copy)[real].mean()) if real.any() else 0.0


def fair_ties(lists: np.ndarray, tied: np.ndarray, n: int, generator: np.random.Generator) -> np.ndarray:
    """Lists [B, K] with the two versions of a tied item exchanged for half of the users, so that no order of ties favours one."""
    base = np.where(lists > n, lists - n, lists)
    coin = generator.integers(1, 2**31, size=len(lists))
    heads = ((base * 2_654_435_761 + coin[:, None] * 40_503) >> 7) % 2 == 1
    return np.where(tied & heads & (lists > 0), other_of(lists, n), lists)
