"""Does IDNP's latent path find anything that SASRec does not? Run: ``python -m experiments.idnp_trial`` (a minute of one core).

IDNP [Interest Dynamics by Neural Processes, arXiv 2208.04600] draws z from what a history's events say on average, q(z | C) for a random part C of
them and q(z | C and T) for all, and adds W z to the state; the two are held together by a KL term. Rows: no path, the path without chance, the path
with noise of like strength (both controls), and the path as it is said, with the whole window (``window``) or the events so far (``so_far``) as C and
T.

Data: ``interests``, planted for it: each of 700 users takes 5 to 12 items of two of twelve groups, in any order. And the package's generated data.
Shapes: B rows, L positions, D width.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recbench.data.batches import Batch
from recbench.data.prepared import PreparedData
from recbench.data.protocol import LeaveOneOutConfig
from recbench.data.sources.synthetic_config import SyntheticConfig
from recbench.data.split import make_split
from recbench.data.store import prepare
from recbench.data.training import TrainingData
from recbench.data.training_rows import epoch_sampler, training_rows
from recbench.evaluation.evaluate import evaluate
from recbench.evaluation.metrics import per_case
from recbench.models.base import ModelContext
from recbench.models.sequence_model import SequenceModel
from recbench.models.sequential.sasrec import SASRec, SASRecConfig

ROWS = (
    ("none", 0.0),
    ("mean", 0.0),
    ("noise", 0.0),
    ("window", 0.1),
    ("window", 0.01),
    ("so_far", 0.1),
    ("so_far", 0.01),
)
SEEDS, EPOCHS, LATENT = (1, 2, 3), 15, 16


class Latent(SASRec):
    """SASRec whose last states get W z; see the head of this file. weight: of the KL term, which grows from 0 over half of the training."""

    def __init__(self, config: SASRecConfig, context: ModelContext, path: str, weight: float) -> None:
        super().__init__(config, context)
        self.path, self.weight, self.grown, self.kl = path, weight, 1.0, torch.zeros(())
        self.encode, self.write = nn.Linear(config.hidden_size, 2 * LATENT), nn.Linear(LATENT, config.hidden_size)
        for layer in (self.write, self.encode):
            nn.init.normal_(layer.weight, std=0.1)
            nn.init.zeros_(layer.bias)

    def latent(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of z."""
        mean, log_variance = self.encode(pooled).chunk(2, -1)
        return mean, log_variance.clamp(-6, 4)

    def hidden_states(self, batch: Batch) -> list[Tensor]:
        states = super().hidden_states(batch)
        if self.path == "none":
            return states
        h, real = states[-1], batch.mask[..., None].float()
        so_far = (h * real).cumsum(1) / real.cumsum(1).clamp(min=1)
        if not self.training or self.path in ("mean", "noise"):
            z, _ = self.latent(so_far)
            if self.training and self.path == "noise":
                z = z + torch.randn_like(z) * 0.5
            return [*states[:-1], h + self.write(z)]
        kept = real * (torch.rand_like(real) < torch.rand(len(h), 1, 1)).float()
        kept[:, 0] = 1
        if self.path == "window":
            whole = (h * real).sum(1, keepdim=True) / real.sum(1, keepdim=True)
            part = (h * kept).sum(1, keepdim=True) / kept.sum(1, keepdim=True)
            mass = torch.ones_like(whole[..., :1])
        else:
            whole, part, mass = so_far, (h * kept).cumsum(1) / kept.cumsum(1).clamp(min=1), real
        (mean, spread), (mean_0, spread_0) = self.latent(whole), self.latent(part)
        z = mean + torch.randn_like(mean) * (spread / 2).exp()
        gap = 0.5 * (spread_0 - spread + (spread.exp() + (mean - mean_0) ** 2) / spread_0.exp() - 1).sum(
            -1, keepdim=True
        )
        self.kl = (gap * mass).sum() / mass.sum()
        return [*states[:-1], h + self.write(z.expand(-1, h.shape[1], -1))]

    def last_states(self, batch: Batch) -> list[Tensor]:
        return SequenceModel.last_states(self, batch)

    def loss_from_states(self, states: list[Tensor], batch: Batch) -> Tensor:
        return super().loss_from_states(states, batch) + self.weight * self.grown * self.kl


def interests(folder: Path) -> PreparedData:
    """Users with two groups of items each."""
    generator, items, offsets = np.random.default_rng(0), [], [0]
    for _ in range(700):
        own, n = generator.choice(12, 2, replace=False), generator.integers(5, 13)
        chosen = np.unique(1 + generator.choice(own, n) * 10 + generator.integers(10, size=n))
        generator.shuffle(chosen)
        items += chosen.tolist()
        offsets.append(len(items))
    times = np.concatenate([np.arange(n) for n in np.diff(offsets)])
    return PreparedData.from_arrays(folder, np.array(items), np.array(offsets), times, n_items=120)


def synthetic(folder: Path) -> PreparedData:
    """A first-order chain, a second one, and clusters."""
    return prepare(
        SyntheticConfig(n_users=700, n_items=100, n_clusters=10, transition=0.5, second_order=0.1, cluster=0.2), folder
    )


def trained(data: PreparedData, path: str, weight: float, seed: int) -> dict[str, Any]:
    """NDCG@10 of each user, which of them are short, the KL at the end, and the variance of W z in that of the states."""
    split = make_split(data, LeaveOneOutConfig(), None)
    train = TrainingData.of(data, split)
    torch.manual_seed(seed)
    config = SASRecConfig(hidden_size=32, n_layers=1, n_heads=2, feedforward_size=32, dropout=0.2)
    model = Latent(config, ModelContext(data.n_items, data.n_users, 20, train=train), path, weight).train()
    rows = training_rows(train, "windows", 20)
    sampler, optimiser = epoch_sampler(rows, "events", 256, seed), torch.optim.Adam(model.parameters(), 0.01)
    for epoch in range(EPOCHS):
        model.grown = min(1.0, epoch / (EPOCHS / 2))
        for chosen in sampler.plan(epoch):
            optimiser.zero_grad()
            model.training_loss(rows[chosen]).backward()
            optimiser.step()
    found = evaluate(model.eval().score, data, split.test, split, 20)
    batch = rows[np.arange(len(rows))]
    with torch.no_grad():
        plain, mass = SASRec.hidden_states(model, batch)[-1], batch.mask[..., None].float()
        written = model.write(model.latent((plain * mass).cumsum(1) / mass.cumsum(1).clamp(min=1))[0])[batch.mask]
        share = 0.0 if path == "none" else float(written.var(0).sum() / plain[batch.mask].var(0).sum())
    return {
        "ndcg": per_case("ndcg@10", found.rank, found.case, found.n_ranked),
        "short": found.history_length <= np.median(found.history_length),
        "kl": float(model.kl.detach()),
        "share": share,
    }


def with_interval(values: np.ndarray) -> str:
    """Mean and 95 % interval."""
    return f"{values.mean():+.4f} ± {1.96 * values.std() / len(values) ** 0.5:.4f}"


def main() -> None:
    makers: dict[str, Callable[[Path], PreparedData]] = {"interests": interests, "synthetic": synthetic}
    for name, make in makers.items():
        data, plain, noise = make(Path(tempfile.mkdtemp())), np.empty(0), np.empty(0)
        print(
            f"{name}\npath (KL weight) | NDCG@10 | less none | less none, short histories | less noise | KL | share of W z"
        )
        for path, weight in ROWS:
            runs = [trained(data, path, weight, seed) for seed in SEEDS]
            ndcg, short = np.mean([run["ndcg"] for run in runs], 0), runs[0]["short"]
            plain, noise = ndcg if path == "none" else plain, ndcg if path == "noise" else noise
            told = with_interval(ndcg - noise) if len(noise) else "-"
            kl, share = (np.mean([run[key] for run in runs]) for key in ("kl", "share"))
            print(
                f"{path} ({weight:g}) | {ndcg.mean():.4f} | {with_interval(ndcg - plain)} | {with_interval((ndcg - plain)[short])} | {told} | "
                f"{kl:.3f} | {share:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
