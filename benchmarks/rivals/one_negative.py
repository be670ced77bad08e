"""SASRec trained as pmixer/SASRec.pytorch trains it: one negative a position, binary cross-entropy. In our own words.

That code is no package of a registry, so it cannot be installed with a pin; **this is not its code** but a rewriting of how it works, to have
the cost of its epoch beside the others. It runs on recbench's torch and imports nothing of recbench. What is kept of its way:
- Three sampler processes build batches example by example in Python, each walking its own shuffles of the users: an epoch is as many batches as
  all users fill, not a pass over each user exactly once. Histories are padded on the left to the full length; only the last ``max_length`` + 1
  events are trained on, and the targets before them are left out. The negative of a position is any item outside the user's training events.
- Every position of the padded rows goes through the network: norm after the residual, ``torch.nn.MultiheadAttention``, a feed-forward part of
  two pointwise convolutions as wide as the model (``feedforward_size`` is not followed), Xavier weights, Adam with betas .9 and .98.
- The loss is binary cross-entropy of target and negative at real positions, read back (``item()``) at every step.
What is kinder to it than it is to itself: the catalogue is ranked in batches and exactly, where it ranks a user at a time among 100 drawn items.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import Sequences, digest
from benchmarks.rivals.progress import Patience, Ranked, TimedLoader, emit_epoch
from benchmarks.task import SASRecTask, emit, emit_end, emit_machine

#: Its defaults.
BATCH_USERS = 128
SAMPLERS = 3
#: Users ranked at a time; ours, since it ranks one by one.
RANKED_USERS = 256


def examples(histories: list[list[int]], n_items: int, batch: int, max_length: int, seed: int, out: Any) -> None:
    """A sampler process: puts batches [3, batch, max_length] of inputs, targets and negatives, without end."""
    rng = np.random.default_rng(seed)
    known = [frozenset(history) for history in histories]
    order, at = rng.permutation(len(histories)), 0
    while True:
        rows = np.zeros((3, batch, max_length), dtype=np.int64)
        for b in range(batch):
            if at == len(order):
                order, at = rng.permutation(len(histories)), 0
            history, own = histories[order[at]], known[order[at]]
            at += 1
            place = max_length - 1
            for item, following in zip(history[-2::-1], history[:0:-1], strict=True):
                if place < 0:
                    break
                negative = int(rng.integers(1, n_items + 1))
                while negative in own:
                    negative = int(rng.integers(1, n_items + 1))
                rows[:, b, place] = item, following, negative
                place -= 1
        out.put(rows)


class Samplers:
    """An epoch of batches from the sampler processes, which run ahead."""

    def __init__(self, histories: list[list[int]], n_items: int, batch: int, max_length: int, seed: int) -> None:
        context = multiprocessing.get_context("fork")
        self.queue: Any = context.Queue(maxsize=10 * SAMPLERS)
        self.steps = -(-len(histories) // batch)
        given = (histories, n_items, batch, max_length)
        self.processes = [
            context.Process(target=examples, args=(*given, 1000 * seed + number, self.queue), daemon=True)
            for number in range(SAMPLERS)
        ]
        for process in self.processes:
            process.start()

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[np.ndarray]:
        for _ in range(self.steps):
            yield self.queue.get()

    def close(self) -> None:
        for process in self.processes:
            process.terminate()
            process.join()


def build(task: SASRecTask, n_items: int) -> Any:
    """The network; torch is imported after the samplers have been forked."""
    import torch
    from torch import Tensor, nn

    class Block(nn.Module):
        """Attention and pointwise feed-forward, each with its residual and then its norm."""

        def __init__(self) -> None:
            super().__init__()
            d, p = task.hidden_size, task.dropout
            self.attention = nn.MultiheadAttention(d, task.n_heads, p)
            self.norms = nn.ModuleList(nn.LayerNorm(d, eps=1e-8) for _ in range(2))
            self.feedforward = nn.Sequential(
                nn.Conv1d(d, d, 1), nn.Dropout(p), nn.ReLU(), nn.Conv1d(d, d, 1), nn.Dropout(p)
            )

        def forward(self, states: Tensor, hidden: Tensor) -> Tensor:
            across = states.transpose(0, 1)
            attended, _ = self.attention(across, across, across, attn_mask=hidden)
            states = self.norms[0]((across + attended).transpose(0, 1))
            return self.norms[1](states + self.feedforward(states.transpose(1, 2)).transpose(1, 2))

    class Network(nn.Module):
        """Left-padded items [B, L] -> states [B, L, D]."""

        def __init__(self) -> None:
            super().__init__()
            self.items = nn.Embedding(n_items + 1, task.hidden_size, padding_idx=0)
            self.positions = nn.Embedding(task.max_length + 1, task.hidden_size, padding_idx=0)
            self.dropout = nn.Dropout(task.dropout)
            self.blocks = nn.ModuleList(Block() for _ in range(task.n_layers))
            self.norm = nn.LayerNorm(task.hidden_size, eps=1e-8)
            for parameter in self.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_normal_(parameter)
            with torch.no_grad():
                self.items.weight[0] = self.positions.weight[0] = 0.0

        def forward(self, items: Tensor) -> Tensor:
            length = items.shape[1]
            place = torch.arange(1, length + 1).expand_as(items) * (items != 0)
            states = self.items(items) * task.hidden_size**0.5 + self.positions(place)
            states, hidden = self.dropout(states), torch.ones(length, length, dtype=torch.bool).triu(1)
            for block in self.blocks:
                states = block(states, hidden)
            return self.norm(states)

    return Network()


def train_epoch(model: Any, optimizer: Any, loader: TimedLoader, task: SASRecTask, epoch: int, users: int) -> None:
    """One epoch, or its first steps, and its line."""
    import torch
    import torch.nn.functional as F

    model.train()
    started, total = time.perf_counter(), 0.0
    for rows in loader:
        items, targets, negatives = torch.from_numpy(rows)
        states, real = model(items), targets != 0
        scores = [(states * model.items(chosen)).sum(-1)[real] for chosen in (targets, negatives)]
        loss = F.softplus(-scores[0]).mean() + F.softplus(scores[1]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    seconds = time.perf_counter() - started
    rows_a_step = rows.shape[1]
    emit_epoch(epoch, loader.marks, seconds, len(loader.loader), rows_a_step, users, total / (len(loader.marks) - 1))


def evaluate(model: Any, sequences: Sequences, split: str, task: SASRecTask, epoch: int) -> Ranked:
    """Rank the whole catalogue for every user of a split; print the line."""
    import torch

    started = time.perf_counter()
    model.eval()
    position = sequences.target_positions(split)
    histories = sequences.histories(position, task.max_length)[:, ::-1].copy()
    ranks = []
    with torch.inference_mode():
        for first in range(0, len(position), RANKED_USERS):
            items = torch.from_numpy(histories[first : first + RANKED_USERS])
            target = torch.from_numpy(sequences.items[position[first : first + RANKED_USERS]])
            scores = model(items)[:, -1] @ model.items.weight.T
            scores[:, 0] = -torch.inf
            own = scores.gather(1, target[:, None])
            if task.seen == "mask":
                scores.scatter_(1, items, -torch.inf)
            ranks.append((scores > own).sum(1) + 1)
    rank = torch.cat(ranks).double()
    hit = rank <= 10
    ndcg = float((hit / torch.log2(rank + 1)).mean())
    seconds = time.perf_counter() - started
    figures = {"ndcg@10": ndcg, "hr@10": float(hit.double().mean())}
    emit("evaluation", epoch=epoch, split=split, seconds=seconds, cases=len(position), **figures)
    return Ranked(ndcg, seconds)


def describe(sequences: Sequences, task: SASRecTask, histories: list[list[int]]) -> None:
    """The ``data`` line."""
    counts, position = sequences.counts(), sequences.target_positions("test")
    trained = sum(min(len(history) - 1, task.max_length) for history in histories)
    test_digest = digest(sequences.histories(position, task.max_length), sequences.items[position])
    counts["training_targets"], left_out = trained, counts["training_targets"] - trained
    emit("data", **counts, targets_left_out=left_out, test_digest=test_digest)


def run(task: SASRecTask, folder: Path) -> None:
    """Train and evaluate as the task says."""
    sequences = Sequences.open(folder)
    n_items = int(sequences.items.max())
    histories = [
        sequences.items[first : last - 2].tolist()
        for first, last in zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True)
    ]
    per_user = sequences.counts()["training_targets"] / sequences.n_users
    batch_users = round(task.batch_targets / per_user) if task.batch_targets else BATCH_USERS
    samplers = Samplers(histories, n_items, batch_users, task.max_length, task.seed)
    try:
        import torch

        torch.set_num_threads(task.threads)
        torch.manual_seed(task.seed)
        emit_machine(["torch", "numpy"], torch.get_num_threads())
        describe(sequences, task, histories)
        model = build(task, n_items)
        optimizer = torch.optim.Adam(model.parameters(), lr=task.learning_rate, betas=(0.9, 0.98))
        loader = TimedLoader(samplers, task.max_steps)
        emit("ready")
        patience = Patience(task)
        for epoch in range(1, task.epochs + 1):
            train_epoch(model, optimizer, loader, task, epoch, sequences.n_users)
            if patience.ends({s: evaluate(model, sequences, s, task, epoch) for s in ("validation", "test")}):
                break
    finally:
        samplers.close()
    emit_end()


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.rivals.one_negative")
    parser.add_argument("--data", type=Path, required=True, help="folder of items.npy, offsets.npy, timestamps.npy")
    SASRecTask.add_arguments(parser)
    arguments = parser.parse_args()
    run(SASRecTask.of(arguments), arguments.data.resolve())


if __name__ == "__main__":
    main()
