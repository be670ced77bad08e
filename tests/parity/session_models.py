"""What the checks of the session graph models share: batches of a file, and parameters that these codes have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recbench.data.batches import Batch
from recbench.models.session.session_graph import SessionGraphModel
from tests.parity import ours
from tests.parity.compare import Pair, part, tensor

N_ITEMS, WIDTH = 9, 8
#: Rows of one length, and rows with pads behind them. Files have both.
EQUAL, PADDED = "eq", "pad"


@dataclass(frozen=True)
class Rows:
    """The rows of one kind in a file: batch, target of each row, and what the published code made of them by name."""

    batch: Batch
    targets: Tensor
    theirs: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], kind: str) -> Rows:
        found = part(arrays, f"{kind}.")
        return cls(ours.batch_of(found["items"], found["lengths"]), tensor(found["targets"]), found)

    def alone(self, row: int, n: int) -> Batch:
        """The first n events of one row, without pads."""
        return ours.batch_of(self.batch.items[row : row + 1, :n], [n])

    def against(self, model: SessionGraphModel, loss: Tensor, names: Mapping[str, str], kind: str) -> dict[str, Pair]:
        """Scores, loss, gradients by items and by the parameters in ``names`` (ours -> theirs)."""
        own = ours.gradients(model, loss)
        pairs = {
            "scores": Pair(ours.scores(model, self.batch), self.theirs["scores"]),
            "loss": Pair(loss, self.theirs["loss"]),
            "gradient by items": Pair(own[ours.ITEMS][1:], self.theirs["g.embedding.weight"][1:]),
        }
        pairs |= {f"gradient by {mine}": Pair(own[mine], self.theirs[f"g.{name}"]) for mine, name in names.items()}
        return {f"{what}, {kind}": pair for what, pair in pairs.items()}


def loss_of_session(model: SessionGraphModel, rows: Rows) -> Tensor:
    """The softmax loss of one target a row, of the vector that the session becomes."""
    return model.catalogue_loss(model.queries(model.last_states(rows.batch)[-1]), rows.targets)


def item_table(theirs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    table = theirs["embedding.weight"].copy()
    table[0] = 0
    return {ours.ITEMS: table}


def gated_names(theirs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The gated step: what comes in and what goes out are two parts of one matrix here."""
    gnn, step = part(theirs, "gnn."), "graph.step."
    both = ("linear_edge_in", "linear_edge_out")
    out = {
        f"{step}neighbours.{kind}": np.concatenate([gnn[f"{n}.{kind}"] for n in both]) for kind in ("weight", "bias")
    }
    out[f"{step}bias"] = np.concatenate([gnn["b_iah"], gnn["b_oah"]])
    cell = {"weight_ih": "w_ih", "weight_hh": "w_hh", "bias_ih": "b_ih", "bias_hh": "b_hh"}
    return out | {f"{step}cell.{mine}": gnn[name] for mine, name in cell.items()}


def readout_names(theirs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The soft attention; its two biases there are added before anything reads them, so ours is one."""
    out = {
        "readout.from_last.bias": theirs["linear_one.bias"] + theirs["linear_two.bias"],
        "readout.combine.bias": theirs["linear_transform.bias"],
    }
    matrices = {
        "from_last": "linear_one",
        "from_node": "linear_two",
        "weight": "linear_three",
        "combine": "linear_transform",
    }
    return out | {f"readout.{mine}.weight": theirs[f"{name}.weight"] for mine, name in matrices.items()}


def independent_of_padding(model: SessionGraphModel, rows: Rows, row: int) -> Pair:
    """A row's scores among its batch, and alone without pads."""
    alone = rows.alone(row, int(rows.batch.lengths[row]))
    return Pair(ours.scores(model, rows.batch)[row], ours.scores(model, alone)[0])


def mean_over_prefixes(model: SessionGraphModel, rows: Rows) -> Pair:
    """The training loss of the rows, and the mean over all their prefixes of each one's loss by itself."""
    items, lengths = rows.batch.items, rows.batch.lengths
    singles = []
    for row, n in enumerate(lengths.tolist()):
        for k in range(1, n):
            logits = ours.scores(model, rows.alone(row, k))
            singles.append(torch.nn.functional.cross_entropy(logits, items[row, k, None] - 1))
    long = lengths > 1
    inputs = items[long].clone()
    inputs[torch.arange(len(inputs)), lengths[long] - 1] = 0
    targets = torch.zeros_like(inputs)
    targets[:, :-1] = items[long][:, 1:]
    windows = ours.batch_of(inputs, lengths[long] - 1, targets=targets)
    with torch.no_grad():
        return Pair(model.training_loss(windows), torch.stack(singles).mean())
