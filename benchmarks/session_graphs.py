"""Session graphs built for a batch at once against one session after another in Python: ``python -m benchmarks.session_graphs``.

Four ways to train the same SR-GNN on the same sessions (drawn here, with Diginetica's catalogue and mean length):

    ours             prefixes and graphs made in the batch, rows no wider than they must be, ``CatalogueLoss``, our optimiser
    python graphs    the same in all but the graphs, which are made session by session in numpy and Python, as public session code makes them
    python loop      also what goes with such graphs there: stored prefixes shuffled one by one, rows as wide as the longest prefix of the data, all
                     logits at once in float32, Adam with L2
    official form    and the arithmetic of the authors' code: a dense matrix of edges a session, padded to the largest session of the batch, every
                     slot through both maps and the cell, and the nodes put back to events session by session

A step trains ``--targets`` prefixes; ways take turns, step by step, and an epoch is the median step times the steps of an epoch.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.state_space import medians
from recbench.config.settings import HardwareConfig, TrainingConfig
from recbench.data.batches import Batch, Windows, prefixes
from recbench.data.epoch_sampler import EpochSampler
from recbench.models.base import ModelContext
from recbench.models.session.srgnn import SRGNN, SRGNNConfig
from recbench.nn.graph.session_graph import SparseGraphs, dense_graphs, sparse_graphs
from recbench.training.fit import set_logits_precision
from recbench.training.learner import Learner


def drawn_sessions(n: int, n_items: int, longest: int, seed: int) -> list[np.ndarray]:
    """Sessions of 2 and more events, 4.85 on average, a fifth of which repeat an earlier one of their session."""
    rng = np.random.default_rng(seed)
    sessions = []
    for length in np.minimum(2 + rng.geometric(1 / 3.85, n) - 1, longest):
        items = rng.zipf(1.2, length) % n_items + 1
        for p in np.flatnonzero(rng.random(length) < 0.2):
            items[p] = items[rng.integers(0, p + 1)]
        sessions.append(items)
    return sessions


def python_graphs(items: np.ndarray, lengths: np.ndarray) -> SparseGraphs:
    """What ``sparse_graphs`` makes, one session and one event at a time: nodes, a matrix of edges, and which node each event is."""
    width = items.shape[1]
    node, session, alias, pairs = [], [], [], []
    first = 0
    for b, (row, length) in enumerate(zip(items, lengths, strict=True)):
        own = np.unique(row[:length])
        matrix = np.zeros((len(own), len(own)))
        place = [int(np.where(own == item)[0][0]) for item in row[:length]]
        for p in range(length - 1):
            matrix[place[p], place[p + 1]] = 1
        source, target = matrix.nonzero()
        node.append(own)
        session.append(np.full(len(own), b))
        pairs.append(np.stack([source, target]) + first)
        alias.append([first + p for p in place] + [0] * (width - length))
        first += len(own)
    edges = torch.from_numpy(np.concatenate(pairs, axis=1))
    return SparseGraphs(
        torch.from_numpy(np.concatenate(node)),
        torch.from_numpy(np.concatenate(session)),
        torch.tensor(alias),
        edges,
        torch.ones(edges.shape[1]),
    )


def construction(rows: int, longest: int, rounds: int) -> None:
    """Milliseconds to build the graphs of one batch, lengths spread evenly up to the longest."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(2, longest + 1, (rows,), generator=generator)
    items = torch.randint(1, longest, (rows, longest), generator=generator)
    items *= torch.arange(longest) < lengths[:, None]
    plain = items.numpy(), lengths.numpy()
    ways: dict[str, Callable[[], object]] = {
        "dense, binary edges": lambda: dense_graphs(items, lengths),
        "dense, counted edges": lambda: dense_graphs(items, lengths, count_edges=True),
        "dense, with edge types": lambda: dense_graphs(items, lengths).edge_types(),
        "sparse": lambda: sparse_graphs(items, lengths, longest),
        "python, session by session": lambda: python_graphs(*plain),
    }
    print(f"graphs of {rows} sessions of 2 to {longest} events")
    for name, taken in medians({name: lambda way=way: void(way) for name, way in ways.items()}, rounds).items():  # type: ignore[misc]
        print(f"{name:<30} {taken:9.2f} ms")


def void(way: Callable[[], object]) -> None:
    way()


class Ours:
    """Steps as ``recbench.training.fit`` makes them; ``graphs`` may be made in another way."""

    def __init__(self, sessions: list[np.ndarray], n_items: int, targets: int, in_python: bool) -> None:
        self.sessions, self.in_python = sessions, in_python
        self.model, self.optimizer = model_and_optimizer(n_items, TrainingConfig())
        length = np.array([len(s) - 1 for s in sessions])
        self.sampler = EpochSampler(Windows(np.arange(len(length)), np.zeros_like(length), length), targets, 1)
        self.steps = len(self.sampler)
        self.plan = self._forever()

    def _forever(self) -> Iterator[np.ndarray]:
        epoch = 0
        while True:
            yield from self.sampler.plan(epoch)
            epoch += 1

    def __call__(self) -> None:
        chosen = [self.sessions[i] for i in next(self.plan)]
        items = right_padded([s[:-1] for s in chosen], max(len(s) for s in chosen) - 1)
        lengths = torch.tensor([len(s) - 1 for s in chosen])
        batch = Batch(items, torch.zeros_like(items), lengths, lengths)
        batch.targets = right_padded([s[1:] for s in chosen], items.shape[1])
        self.optimizer.zero_grad()
        if self.in_python:
            rows = prefixes(batch)
            states = states_by(self.model, rows.items, rows.lengths)
            loss = self.model.catalogue_loss(states, batch.targets[batch.mask])
        else:
            loss = self.model.training_loss(batch)
        loss.backward()
        self.optimizer.step()


class PythonLoop:
    """Steps over stored prefixes, as public session code makes them."""

    def __init__(self, sessions: list[np.ndarray], n_items: int, targets: int) -> None:
        self.samples = [(s[:end], s[end]) for s in sessions for end in range(1, len(s))]
        self.width = max(len(s) for s, _ in self.samples)
        self.model, _ = model_and_optimizer(n_items, TrainingConfig())
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, weight_decay=1e-5)
        self.targets, self.steps = targets, -(-len(self.samples) // targets)
        self.rng = np.random.default_rng(1)

    def __call__(self) -> None:
        chosen = [self.samples[i] for i in self.rng.integers(0, len(self.samples), self.targets)]
        items = right_padded([s for s, _ in chosen], self.width)
        self._learn(states_by(self.model, items, torch.tensor([len(s) for s, _ in chosen])), chosen)

    def _learn(self, states: Tensor, chosen: list[tuple[np.ndarray, int]]) -> None:
        logits = states @ self.model.item_vectors()[1:].T
        self.optimizer.zero_grad()
        F.cross_entropy(logits, torch.tensor([int(t) for _, t in chosen]) - 1).backward()
        self.optimizer.step()


class OfficialForm(PythonLoop):
    """The same steps with dense matrices of edges and padded nodes."""

    def __call__(self) -> None:
        chosen = [self.samples[i] for i in self.rng.integers(0, len(self.samples), self.targets)]
        items = right_padded([s for s, _ in chosen], self.width).numpy()
        nodes, before, after, alias = dense_in_python(items)
        step = self.model.graph.step
        hidden = self.model.item_embedding(nodes)
        incoming, outgoing = step.neighbours(hidden).chunk(2, dim=-1)
        messages = torch.cat([before @ incoming, after @ outgoing], dim=-1) + step.bias
        hidden = step.cell(messages.flatten(0, 1), hidden.flatten(0, 1)).view_as(hidden)
        at_events = torch.stack([hidden[b][alias[b]] for b in range(len(chosen))])
        lengths = torch.tensor([len(s) for s, _ in chosen])
        last = at_events[torch.arange(len(chosen)), lengths - 1]
        states = self.model.readout(at_events, last, torch.from_numpy(items) > 0)
        self._learn(states, chosen)


def dense_in_python(items: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Session by session: nodes [B, N], shares of predecessors and of successors [B, N, N], node of each event [B, L]; N the most distinct
    items of a session, the pad among them."""
    most = max(len(np.unique(row)) for row in items)
    nodes, before, after, alias = [], [], [], []
    for row in items:
        own = np.unique(row)
        nodes.append(own.tolist() + (most - len(own)) * [0])
        matrix = np.zeros((most, most))
        for p in range(len(row) - 1):
            if row[p + 1] == 0:
                break
            matrix[np.where(own == row[p])[0][0], np.where(own == row[p + 1])[0][0]] = 1
        into, out_of = matrix.sum(0), matrix.sum(1)
        into[into == 0], out_of[out_of == 0] = 1, 1
        before.append((matrix / into).T)
        after.append(matrix / out_of[:, None])
        alias.append([int(np.where(own == item)[0][0]) for item in row])
    edges = [torch.from_numpy(np.stack(part)).float() for part in (before, after)]
    return torch.tensor(nodes), edges[0], edges[1], torch.tensor(alias)


def model_and_optimizer(n_items: int, config: TrainingConfig) -> tuple[SRGNN, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = SRGNN(SRGNNConfig(), ModelContext(n_items, 1, 100))
    set_logits_precision(model, HardwareConfig())
    return model, Learner(model, config, 1).configure_optimizers()


def right_padded(rows: list[np.ndarray], width: int) -> Tensor:
    items = np.zeros((len(rows), width), dtype=np.int64)
    for place, row in zip(items, rows, strict=True):
        place[: len(row)] = row
    return torch.from_numpy(items)


def states_by(model: SRGNN, items: Tensor, lengths: Tensor) -> Tensor:
    """Session vectors of rows [B, D] over graphs made in Python."""
    graphs = python_graphs(items.numpy(), lengths.numpy())
    nodes = model.graph(model.item_embedding(graphs.item), graphs)[-1]
    return model.readout(graphs.at_events(nodes), graphs.at_last(nodes, lengths), items > 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=43_097)
    parser.add_argument("--sessions", type=int, default=20_000)
    parser.add_argument("--longest", type=int, default=70)
    parser.add_argument("--targets", type=int, default=100, help="prefixes a step, of every way")
    parser.add_argument("--large", type=int, default=512, help="and of ours once more")
    parser.add_argument("--rounds", type=int, default=15)
    chosen = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    construction(512, 50, chosen.rounds)
    sessions = drawn_sessions(chosen.sessions, chosen.items, chosen.longest, 0)
    ways: dict[str, Ours | PythonLoop] = {
        "ours": Ours(sessions, chosen.items, chosen.targets, in_python=False),
        f"ours, {chosen.large} targets a step": Ours(sessions, chosen.items, chosen.large, in_python=False),
        "python graphs": Ours(sessions, chosen.items, chosen.targets, in_python=True),
        "python loop": PythonLoop(sessions, chosen.items, chosen.targets),
        "official form": OfficialForm(sessions, chosen.items, chosen.targets),
    }
    started = time.perf_counter()
    taken = medians(dict(ways.items()), chosen.rounds)
    targets = sum(len(s) - 1 for s in sessions)
    print(f"\nan epoch of srgnn: {targets} prefixes, {chosen.items} items, {chosen.targets} a step")
    epochs = {name: taken[name] * way.steps / 1000 for name, way in ways.items()}
    for name, seconds in epochs.items():
        print(f"{name:<30} {taken[name]:8.1f} ms a step {seconds:8.1f} s an epoch {seconds / epochs['ours']:6.2f}x")
    print(f"measured for {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
