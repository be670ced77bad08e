"""Backbones cut to their first layers, prompts around the items, and the heads of SLMRec and E4SRec, against transformers with the same weights."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import torch
from torch import Tensor

from recbench.models.language.e4srec import E4SRec, E4SRecConfig
from recbench.models.language.slmrec import SLMRec, SLMRecConfig
from recbench.nn.language.backbone import Backbone, BackboneConfig
from tests.parity import llama, ours
from tests.parity.compare import EXACT, Check, Pair, differs, every_comparison, within

LENGTHS = torch.tensor([7, 3, 5])
REAL = torch.arange(7) < LENGTHS[:, None]
CUT, RANKS = 3, (0, 4)
LAST = torch.arange(3), LENGTHS - 1


@cache
def _vectors() -> Tensor:
    return torch.randn(3, 7, llama.WIDTH, generator=torch.Generator().manual_seed(1))


def _backbone(**keys: object) -> Backbone:
    folder, _ = llama.stored()
    torch.manual_seed(2)
    return Backbone(BackboneConfig(backbone=str(folder), n_layers=CUT, **keys), 60).eval()


def _real(states: list[Tensor]) -> Tensor:
    """All states at real positions."""
    return torch.stack([state[REAL] for state in states])


@torch.no_grad()
def _cut() -> dict[str, Pair]:
    x, found = _vectors(), {}
    theirs = llama.states(CUT, x, REAL.long())
    for rank in RANKS:
        states = _backbone(lora_rank=rank)(x)
        found[f"number of states, lora_rank={rank}"] = Pair(len(states), CUT + 1)
        found[f"every state, lora_rank={rank}"] = Pair(_real(states), _real(theirs))
        found[f"last state after the norm, lora_rank={rank}"] = Pair(states[-1][REAL], theirs[-1][REAL])
    left, mask = torch.zeros_like(x), torch.zeros(3, 7, dtype=torch.int64)
    for row, n in enumerate(LENGTHS.tolist()):
        left[row, 7 - n :], mask[row, 7 - n :] = x[row, :n], 1
    padded_left = llama.states(CUT, left, mask)[-1][:, -1]
    return found | {"last event, pads on their left": Pair(states[-1][LAST], padded_left)}


@torch.no_grad()
def _prompt() -> dict[str, Pair]:
    x, lengths = _vectors(), LENGTHS.tolist()
    backbone = _backbone(lora_rank=0, prompt="learned", prompt_lengths=[5, 3])
    backbone.prompt.prefix.normal_()
    backbone.prompt.suffix.normal_()
    before, after = backbone.prompt.ends(None)
    whole = [
        torch.stack(llama.states(CUT, torch.cat([before, x[row, :n], after])[None]))[:, 0, -1]
        for row, n in enumerate(lengths)
    ]
    every, last = backbone(x), backbone.last(x, LENGTHS)
    backbone.reuse_prefix = False
    every_plain, last_plain = backbone(x), backbone.last(x, LENGTHS)
    singles = [
        backbone.last(x[row : row + 1, :k], torch.tensor([k]))[-1][0]
        for row, n in enumerate(lengths)
        for k in range(1, n + 1)
    ]
    return {
        "[prompt] [items] [prompt], read at its end": Pair(torch.stack(last), torch.stack(whole, 1)),
        "end, the prompt's keys kept or not": Pair(torch.stack(last), torch.stack(last_plain)),
        "every position, the prompt's keys kept or not": Pair(_real(every), _real(every_plain)),
        "every position, in one pass or a row a prefix": Pair(every[-1][REAL], torch.stack(singles)),
        "end, with pads before the items": Pair(last[-1][1], _pads_between(x, before, after)[1]),
    }


def _pads_between(x: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """The authors' layout: pads stand between prompt and items, where they are masked and yet counted as positions. [B, WIDTH] at the end."""
    rows, masks = [], []
    for row, n in enumerate(LENGTHS.tolist()):
        pads = torch.zeros(7 - n, llama.WIDTH)
        rows.append(torch.cat([before, pads, x[row, :n], after]))
        masks.append(torch.cat([torch.ones(len(before)), torch.zeros(7 - n), torch.ones(n + len(after))]).long())
    return llama.states(CUT, torch.stack(rows), torch.stack(masks))[-1][:, -1]


@torch.no_grad()
def _heads() -> dict[str, Pair]:
    generator = torch.Generator().manual_seed(3)
    table = torch.randn(10, 6, generator=generator)
    source = SimpleNamespace(item_vectors=lambda: table, config=SimpleNamespace(name="table"))
    batch = ours.batch_of(torch.tensor([[1, 2, 3], [4, 5, 0]]), torch.tensor([3, 2]))
    found = {}
    for model, config in ((SLMRec, SLMRecConfig), (E4SRec, E4SRecConfig)):
        settings = config(backbone=str(llama.stored()[0]), n_layers=2, lora_rank=0, dropout=0.0)
        made = ours.build(model, settings, 9, max_length=20, dependencies={"item_table": source})
        states = llama.states(2, made.item_to_state(table[batch.items]))[-1][torch.arange(2), batch.lengths - 1]
        theirs = made.state_to_item(states) @ table.T if model is SLMRec else states @ made.head.weight.T
        found[f"{made.config.name}: scores"] = Pair(ours.scores(made, batch), theirs[:, 1:])
    return found


CHECKS = [
    Check(
        "backbones cut to 3 of 5 layers",
        "huggingface/transformers, Llama, with the same weights",
        "the installed version",
        {f"number of states, lora_rank={rank}": EXACT for rank in RANKS}
        | {f"every state, lora_rank={rank}": within(1e-5) for rank in RANKS}
        | {f"last state after the norm, lora_rank={rank}": within(1e-5) for rank in RANKS}
        | {"last event, pads on their left": within(1e-4)},
        _cut,
    ),
    Check(
        "prompts before and behind the items",
        "huggingface/transformers, Llama, with the same weights",
        "the installed version",
        {
            "[prompt] [items] [prompt], read at its end": within(1e-5),
            "end, the prompt's keys kept or not": within(1e-5),
            "every position, the prompt's keys kept or not": within(1e-5),
            "every position, in one pass or a row a prefix": within(1e-5),
            "end, with pads before the items": differs(1e-4),
        },
        _prompt,
        "SLMRec's and E4SRec's code counts the pads between prompt and items as positions, so rows of unequal length differ",
    ),
    Check(
        "slmrec and e4srec, their heads",
        "huggingface/transformers, Llama, with the same weights",
        "the installed version",
        {"slmrec: scores": within(1e-4), "e4srec: scores": within(1e-4)},
        _heads,
    ),
]


@every_comparison(CHECKS)
def test_equals_transformers(check: Check, what: str) -> None:
    check.hold(what)
