"""Constrained beam search against a loop over a dict trie, and a step of our trie against the catalogue: ``python -m benchmarks.decoding``.

The loop is what OpenP5 and LETTER run, in own words: their trie is nested dicts, walked from its root by Python for every beam at every step to
list the allowed tokens, which open a mask over the vocabulary; and generation in transformers repeats the encoder's output for every beam, so
keys and values of the history are projected and held once a beam. Network and weights are the same TIGER's, and the lists must come out the
same. Two things are kind to the loop: its mask spans the level's own vocabulary only, and its trie hands over the item. To see what either half
costs, the loop is also timed on our shared history.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor

from benchmarks.state_space import medians
from recbench.data.batches import Batch
from recbench.models.base import ModelContext
from recbench.models.generative.tiger import TIGER, TIGERConfig
from recbench.nn.decoding.beam import constrained_step
from recbench.nn.decoding.trie import Trie

#: Codes of a level, and levels; one more tells colliding items apart.
SIZE, LEVELS = 256, 3

Nested = dict[int, Any]


def random_codes(n_items: int) -> tuple[Tensor, list[int]]:
    """Codes [n_items + 1, 4] of three random levels and a digit, and the sizes."""
    codes = torch.randint(SIZE, (n_items, LEVELS), generator=torch.Generator().manual_seed(n_items))
    group = codes.unique(dim=0, return_inverse=True)[1]
    ordered, order = group.sort(stable=True)
    digit = torch.empty_like(group)
    digit[order] = torch.arange(n_items) - torch.searchsorted(ordered, ordered)
    table = torch.cat([codes, digit[:, None]], dim=1)
    return torch.cat([torch.full((1, LEVELS + 1), -1), table]), [SIZE] * LEVELS + [int(digit.max()) + 1]


def nested_dicts(codes: Tensor) -> Nested:
    """The loop's trie; the last code leads to the item."""
    root: Nested = {}
    for item, row in enumerate(codes[1:].tolist(), start=1):
        node = root
        for code in row[:-1]:
            node = node.setdefault(code, {})
        node[row[-1]] = item
    return root


def walk(root: Nested, prefix: list[int]) -> Any:
    node: Any = root
    for code in prefix:
        node = node[code]
    return node


def dict_loop(model: TIGER, root: Nested, batch: Batch, beams: int, repeated: bool) -> Tensor:
    """[B, beams] items. repeated: the encoder's output once for every beam, as transformers has it."""
    b, device = len(batch), batch.items.device
    states, real = model.encoder_states(batch.items, batch.lengths, batch.user)
    if repeated:
        states, real = states.repeat_interleave(beams, dim=0), real.repeat_interleave(beams, dim=0)
    memory = model.memory(states, real)
    form = (b * beams, 1, 1, -1) if repeated else (b, beams, 1, -1)
    prefixes: list[list[int]] = [[] for _ in range(b * beams)]
    # All beams are the same at first: only one of a user may win.
    scores = torch.full((b, beams), -1e9, device=device)
    scores[:, 0] = 0.0
    offsets = (model.sizes.cumsum(0) - model.sizes).tolist()
    x, past = model.begin.expand(b * beams, -1).view(form), None
    for level, size in enumerate(model.level_sizes):
        out, past = model.decode(x, memory, memory.real[:, None, None, :], past)
        logits = cast("Any", model.heads)[level](out).view(b * beams, size).log_softmax(dim=-1)
        mask = torch.full_like(logits, -torch.inf)
        for row, prefix in enumerate(prefixes):
            mask[row, list(walk(root, prefix))] = 0
        total = (logits + mask).view(b, beams, size) + scores[..., None]
        scores, index = total.flatten(1).topk(beams, dim=1)
        parent = (index // size + torch.arange(b, device=device)[:, None] * beams).flatten()
        code = (index % size).flatten()
        prefixes = [[*prefixes[p], c] for p, c in zip(parent.tolist(), code.tolist(), strict=True)]
        past = [(key[parent], value[parent]) for key, value in past]
        x = model.token_embedding(code + offsets[level]).view(form)
    return torch.tensor([walk(root, prefix) for prefix in prefixes]).view(b, beams)


def against_the_loop(n_items: int, users: int, beams: int, rounds: int, keys: dict[str, int]) -> None:
    codes, sizes = random_codes(n_items)
    tokenizer = SimpleNamespace(codes=codes, sizes=torch.tensor(sizes))
    context = ModelContext(n_items, users, 20, dependencies=cast("Any", {"tokenizer": tokenizer}))
    model = TIGER(TIGERConfig(beams=beams, **cast("Any", keys)), context).eval()
    history = torch.randint(1, n_items + 1, (users, 20))
    batch = Batch(history, torch.zeros_like(history), torch.full((users,), 20), torch.arange(users))
    root, trie = nested_dicts(codes), model.trie
    ways: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: model.recommend(batch, beams)[0],
        "dict-trie loop": lambda: dict_loop(model, root, batch, beams, repeated=True),
        "dict-trie loop, our shared history": lambda: dict_loop(model, root, batch, beams, repeated=False),
    }
    lists = {name: way() for name, way in ways.items()}
    for name, found in lists.items():
        same = (found == lists["ours"]).float().mean().item()
        # Sums in another order may swap two neighbours.
        assert same > 0.99, f"{name} agrees on {same:.1%} of the places"
    print(f"\n{n_items} items, {trie.levels[-1].size} as digits, {users} users, beam {beams}, history 20, {keys}")
    measured = medians({name: cast("Callable[[], None]", way) for name, way in ways.items()}, rounds)
    for name, taken in measured.items():
        print(f"{name:<36} {taken:9.1f} ms {1000 * users / taken:9.1f} users/s   {taken / measured['ours']:6.2f}x")


def against_the_catalogue(sizes: list[int], users: int, beams: int, rounds: int) -> None:
    """What the trie costs a search, without the network: all steps on log-probabilities that are there."""
    ways: dict[str, Callable[[], None]] = {}
    for n_items in sizes:
        codes, levels = random_codes(n_items)
        started = time.perf_counter()
        trie = Trie.of(codes, levels)
        built = time.perf_counter() - started
        branching = [level.branching for level in trie.levels]
        print(f"{n_items:>9} items: trie built in {built:5.2f} s, most children {branching}")
        ways[f"{n_items} items"] = lambda trie=trie: search_only(trie, users, beams)  # type: ignore[misc]
    for name, taken in medians(ways, rounds).items():
        print(f"{name:>15}: {taken:7.2f} ms a search of {users} users, beam {beams}")


def search_only(trie: Trie, users: int, beams: int) -> None:
    """Every step of a search; log-probabilities are looked up in a small table instead of asked of a network."""
    node, scores = torch.zeros(users, 1, dtype=torch.int64), torch.zeros(users, 1)
    for depth, size in enumerate(trie.sizes):
        log_probs = LOG_PROBS[:users, : node.shape[1], :size]
        node, scores, _, _ = constrained_step(trie, depth, node, scores, log_probs, beams)


LOG_PROBS = torch.empty(0)


def main() -> None:
    global LOG_PROBS
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=12_101)
    parser.add_argument("--users", type=int, default=32)
    parser.add_argument("--beams", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--catalogues", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    chosen = parser.parse_args()
    torch.manual_seed(0)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    with torch.inference_mode():
        LOG_PROBS = torch.randn(chosen.users, chosen.beams, SIZE).log_softmax(dim=-1)
        against_the_catalogue(chosen.catalogues, chosen.users, chosen.beams, 4 * chosen.rounds)
        small = {"hidden_size": 128, "n_layers": 4, "n_heads": 6, "head_size": 64, "feedforward_size": 1024}
        against_the_loop(chosen.items, chosen.users, chosen.beams, chosen.rounds, {})
        against_the_loop(chosen.items, chosen.users, chosen.beams, chosen.rounds, small)


if __name__ == "__main__":
    main()
