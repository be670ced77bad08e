"""What torch-geometric's data types and layers cost the session models that hold their graphs in them: ``python -m benchmarks.graph_types``.

    import      processor seconds of a fresh process, for what a training run imports, with and without torch-geometric
    build       the graph of all training sessions, its table of neighbours included: as it is made (pairs counted by numpy, mirrored by the library);
                all of it by the library, out of every pair of events; and as it was made before the graph was a ``HeteroData``
    batch       the typed graphs of a batch of sessions as one ``Data``, as a ``HeteroData`` with a type of edge for each relation, and without either
    messages    forward and backward along the typed edges: ours and the library's layer for it, whose results must be equal first
    layer       a layer of GCE-GNN's global graph: over the table, and over a list of edges with the library's softmax and sum

Ways take turns; figures are medians of processor time, one thread.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data, HeteroData
from torch_geometric.nn import RGCNConv
from torch_geometric.utils import scatter, softmax, to_undirected

from benchmarks.session_graphs import drawn_sessions
from recbench.data.training import TrainingData
from recbench.nn.graph.behaviour_graph import RelationStep, behaviour_graph, n_relations
from recbench.nn.graph.global_graph import GlobalGraph, GlobalLayer, neighbour_table

IMPORTS = (
    "import time, torch, pytorch_lightning; started = time.process_time(); {}; print(time.process_time() - started)"
)
N_ITEMS, N_SESSIONS, WINDOW, KEPT = 43_097, 180_000, 3, 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    train = drawn_training()
    print(f"{len(train.data.items):,} events, {N_ITEMS:,} items, window {WINDOW}, {KEPT} neighbours")
    show("import", medians(imports(), min(rounds, 3), own_time=False), "s", 1)
    show("build", medians(builds(train), rounds), "ms", 1e3)
    show("batch of 512 sessions of 20 events, 3 behaviours", medians(batches(), rounds), "ms", 1e3)
    show("messages of that batch, 64 wide", medians(messages(), rounds), "ms", 1e3)
    show("layer for the nodes of 512 sessions, 100 wide", medians(layers(train), rounds), "ms", 1e3)


def medians(ways: dict[str, Callable[[], Any]], rounds: int, own_time: bool = True) -> dict[str, float]:
    """Seconds of each way: of this process, or what the way returns."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(rounds + 1):
        for name, way in ways.items():
            started = time.process_time()
            given = way()
            if round_:  # the first finds nothing ready
                taken[name].append(time.process_time() - started if own_time else given)
    return {name: sorted(seconds)[len(seconds) // 2] for name, seconds in taken.items()}


def show(title: str, seconds: dict[str, float], unit: str, times: float) -> None:
    print(f"\n{title}")
    for name, value in seconds.items():
        print(f"  {name:<62} {value * times:9.2f} {unit}")


def imports() -> dict[str, Callable[[], Any]]:
    def seconds(statement: str) -> float:
        command = [sys.executable, "-c", IMPORTS.format(statement)]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    ways = {"recbench.models.session.gcegnn": "import recbench.models.session.gcegnn"}
    ways["and torch_geometric, at its first graph"] = f"{ways['recbench.models.session.gcegnn']}, torch_geometric"
    return {name: lambda statement=statement: seconds(statement) for name, statement in ways.items()}  # type: ignore[misc]


def drawn_training() -> TrainingData:
    sessions = drawn_sessions(N_SESSIONS, N_ITEMS, 20, seed=0)
    items = np.concatenate(sessions).astype(np.int32)
    length = np.array([len(session) for session in sessions])
    data: Any = SimpleNamespace(
        items=items, timestamps=np.arange(len(items)), behaviours=None, n_items=N_ITEMS, n_users=len(length)
    )
    return TrainingData(data, length.cumsum() - length, length.cumsum())


def event_pairs(train: TrainingData) -> np.ndarray:
    """[2, P]: the items of every two events near each other."""
    session, item, _ = train.flat()
    near = [np.stack([item[:-k], item[k:]])[:, session[:-k] == session[k:]] for k in range(1, WINDOW + 1)]
    return np.concatenate(near, axis=1).astype(np.int64)


def builds(train: TrainingData) -> dict[str, Callable[[], Any]]:
    def by_library() -> Any:
        pairs = torch.from_numpy(event_pairs(train))
        edge_index, weight = to_undirected(pairs, torch.ones(pairs.shape[1]), num_nodes=N_ITEMS + 1, reduce="add")
        return table(edge_index.numpy(), weight.numpy())

    def before() -> Any:
        first, second = event_pairs(train)
        both = np.concatenate([first * (N_ITEMS + 1) + second, second * (N_ITEMS + 1) + first])
        key, count = np.unique(both, return_counts=True)
        return table(np.stack([key // (N_ITEMS + 1), key % (N_ITEMS + 1)]), count)

    def table(ends: np.ndarray, weight: np.ndarray) -> tuple[Tensor, Tensor]:
        order = np.lexsort((ends[1], -weight, ends[0]))
        (source, target), weight = ends[:, order], weight[order]
        rank = np.arange(len(source)) - np.searchsorted(source, source)
        kept = rank < KEPT
        neighbours = np.zeros((N_ITEMS + 1, KEPT), dtype=np.int32)
        weights = np.zeros((N_ITEMS + 1, KEPT), dtype=np.float32)
        neighbours[source[kept], rank[kept]], weights[source[kept], rank[kept]] = target[kept], weight[kept]
        return torch.from_numpy(neighbours), torch.from_numpy(weights)

    ways = {
        "as it is made: a HeteroData": lambda: neighbour_table(train, WINDOW, KEPT),
        "all of it by the library, out of every pair of events": by_library,
        "before: arrays": before,
    }
    made = [way() for way in ways.values()]
    assert all(torch.equal(a, b) for other in made[1:] for a, b in zip(made[0], other, strict=True)), "tables differ"
    return ways


def drawn_batch() -> tuple[Tensor, Tensor, Tensor, int]:
    generator = torch.Generator().manual_seed(0)
    items = torch.randint(1, 2000, (512, 20), generator=generator)
    return items, torch.randint(0, 3, items.shape, generator=generator), torch.ones_like(items, dtype=torch.bool), 3


def batches() -> dict[str, Callable[[], Any]]:
    graph = behaviour_graph(*drawn_batch())
    parts = graph.to_dict()

    def hetero() -> HeteroData:
        made = HeteroData()
        made["item"].id = graph.item
        edges = graph.edge_index.split(graph.per_type, dim=1), graph.edge_weight.split(graph.per_type)
        for relation, (ends, weight) in enumerate(zip(*edges, strict=True)):
            made["item", str(relation), "item"].edge_index = ends
            made["item", str(relation), "item"].edge_weight = weight
        return made

    return {
        "the graphs, as one Data": lambda: behaviour_graph(*drawn_batch()),
        "of it, the Data alone": lambda: Data(**parts),
        "what a HeteroData of the same would take": hetero,
    }


def messages() -> dict[str, Callable[[], Any]]:
    graph = behaviour_graph(*drawn_batch())
    step, n = RelationStep(64, 3), n_relations(3)
    layer = RGCNConv(64, 64, n, aggr="mean", root_weight=False, bias=False)
    layer.weight.data.copy_(step.relations.data)
    states = torch.randn(len(graph.item), 64, requires_grad=True)
    ways: dict[str, Callable[[], Tensor]] = {
        "RelationStep.messages": lambda: step.messages(states, graph),
        "RGCNConv": lambda: layer(states, graph.edge_index, graph.edge_type),
    }
    return compared(ways)


def layers(train: TrainingData) -> dict[str, Callable[[], Any]]:
    graph = GlobalGraph(N_ITEMS, 100, 1, KEPT, WINDOW, 0.0, train)
    layer: Any = graph.layers[0]
    vectors = torch.randn(N_ITEMS + 1, 100, requires_grad=True)
    items = torch.from_numpy(train.data.items[: int(train.end[511])]).long()
    wish = torch.randn(len(items), 100)

    def table() -> Tensor:
        return layer(vectors[items], vectors[graph.neighbours[items].long()], graph.weights[items], wish)

    def edges() -> Tensor:
        real = graph.neighbours[items] > 0
        node = torch.arange(len(items))[:, None].expand_as(real)[real]
        near, weight = vectors[graph.neighbours[items][real].long()], graph.weights[items][real]
        return over_edges(layer, vectors[items], near, weight, wish, node)

    return compared({"over the table": table, "over a list of edges, by the library": edges})


def over_edges(layer: GlobalLayer, own: Tensor, near: Tensor, weight: Tensor, wish: Tensor, node: Tensor) -> Tensor:
    """``GlobalLayer`` on edges [E]: states ``near`` [E, D] heard by nodes ``node`` [E]."""
    heard = layer.match(wish[node] * near) + layer.from_weight(weight[:, None])
    pi = layer.query(torch.nn.functional.leaky_relu(heard, 0.2))
    share = softmax(pi, node, num_nodes=len(own))
    mixed = scatter(share * near, node, dim_size=len(own), reduce="sum")
    return torch.relu(layer.combine(layer.dropout(torch.cat([own, mixed], dim=-1))))


def compared(ways: dict[str, Callable[[], Tensor]]) -> dict[str, Callable[[], Any]]:
    """The ways with a backward pass, once their results were found to be equal."""
    found = [way() for way in ways.values()]
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-4, atol=1e-5)
    return {name: lambda way=way: way().sum().backward() for name, way in ways.items()}  # type: ignore[misc]


if __name__ == "__main__":
    main()
