"""LC-Rec's exact scores, beam search and one-pass loss against whole passes of transformers and a plain search over prefixes."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import torch
from torch import Tensor

from recbench.data.batches import Batch
from recbench.models.generative.lcrec import LCRec, LCRecConfig
from tests.parity import llama, ours
from tests.parity.codes import tokenizer
from tests.parity.compare import EXACT, Check, Pair, every_comparison, within

SIZES, ITEMS, BEAMS, LAYERS = (5, 4, 3), 30, 6, 3
TASKS = dict.fromkeys(("item2index", "index2item", "fusionseqrec"), 0.0)
HISTORIES = torch.tensor([[3, 7, 1, 9, 2], [4, 11, 0, 0, 0], [30, 0, 0, 0, 0]])
TARGETS = torch.tensor([[7, 1, 9, 2, 5], [11, 6, 0, 0, 0], [8, 0, 0, 0, 0]])
LENGTHS = torch.tensor([5, 2, 1])


@cache
def _setting() -> tuple[LCRec, np.ndarray, Batch]:
    """(model, codes of the items 1.. [ITEMS, 3], batch)."""
    every = np.array(list(product(*(range(size) for size in SIZES))))
    codes = np.random.default_rng(0).permutation(every)[:ITEMS]
    settings = {"backbone": str(llama.stored()[0]), "n_layers": LAYERS, "lora_rank": 0, "dropout": 0.0, "beams": BEAMS}
    given = tokenizer(codes, SIZES)
    model = ours.build(LCRec, LCRecConfig(**settings, **TASKS), ITEMS, max_length=8, dependencies={"tokenizer": given})
    torch.manual_seed(3)
    with torch.no_grad():
        for table in (model.token_embedding, model.special_embedding, *model.heads):
            table.weight.normal_()
    return model, codes, ours.batch_of(HISTORIES, LENGTHS, targets=TARGETS)


@torch.no_grad()
def _log_probabilities(history: Tensor, item: int) -> Tensor:
    """[levels]: log p of each code of an item after the history [L], by one whole pass without a cache."""
    model, codes, _ = _setting()
    before = model.history(history[None])[0]
    tokens = model.token_embedding(model.tokens()[item])
    states = llama.states(LAYERS, torch.cat([before, tokens[:-1]])[None])[-1][0, len(before) - 1 :]
    chosen = zip(model.heads, states, codes[item - 1], strict=True)
    return torch.stack([head(state).log_softmax(-1)[code] for head, state, code in chosen])


@cache
def _all_log_probabilities() -> Tensor:
    """[B, ITEMS, levels]."""
    rows = [history[:n] for history, n in zip(HISTORIES, LENGTHS.tolist(), strict=True)]
    return torch.stack([torch.stack([_log_probabilities(row, item) for item in range(1, ITEMS + 1)]) for row in rows])


def _plain_search(log_probabilities: Tensor) -> list[int]:
    """Items of the best beams: at each level the BEAMS best prefixes that some item has. log_probabilities [ITEMS, levels]."""
    codes = [tuple(row) for row in _setting()[1].tolist()]
    kept: set[tuple[int, ...]] = {()}
    for level in range(1, len(SIZES) + 1):
        scores = {
            code[:level]: float(log_probabilities[i, :level].sum())
            for i, code in enumerate(codes)
            if code[: level - 1] in kept
        }
        ranked = sorted(scores, key=lambda prefix: -scores[prefix])[:BEAMS]
        kept = set(ranked)
    return [codes.index(prefix) + 1 for prefix in ranked]


@torch.no_grad()
def _lcrec() -> dict[str, Pair]:
    model, _, batch = _setting()
    exact = _all_log_probabilities().sum(2)
    items, scores = model.recommend(batch, BEAMS)
    prefixes = [
        -_log_probabilities(HISTORIES[row, :k], int(TARGETS[row, k - 1])).mean()
        for row, n in enumerate(LENGTHS.tolist())
        for k in range(1, n + 1)
    ]
    return {
        "exact scores, a whole pass for each item": Pair(ours.scores(model, batch), exact),
        "beam search: score of each listed item": Pair(scores, exact.gather(1, items - 1)),
        "beam search: items of a plain search": Pair(items, [_plain_search(row) for row in _all_log_probabilities()]),
        "training loss, a row a prefix": Pair(model.training_loss(batch), torch.stack(prefixes).mean()),
    }


CHECKS = [
    Check(
        "lcrec, its decoding and loss",
        "huggingface/transformers, Llama, with the same weights",
        "the installed version",
        {
            "exact scores, a whole pass for each item": within(1e-3),
            "beam search: score of each listed item": within(1e-3),
            "beam search: items of a plain search": EXACT,
            "training loss, a row a prefix": within(1e-4),
        },
        _lcrec,
        "a code is predicted among those of its level; lists follow the trie of all items",
    )
]


@every_comparison(CHECKS)
def test_equals_transformers(check: Check, what: str) -> None:
    check.hold(what)
