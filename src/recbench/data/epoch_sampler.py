"""Which training windows make a batch, and in which order the batches of an epoch come."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from recbench.data.batches import Part, Windows

#: How many batches of users are shuffled together before they are sorted by length. More: less padding, but rows of one
#: batch become more alike. At 32, Beauty has 3 % padding.
POOL_BATCHES = 32


class EpochSampler(Sampler["np.ndarray | Part"]):
    """Length-bucketed batches of about ``batch_size`` targets; the plan of an epoch depends on (seed, epoch) alone.

    That is what makes a resumed run equal an uninterrupted one: no generator state has to survive, only ``state_dict``. Of ``parts``
    processes, each takes its part of every batch of the one plan; together they take what a single process takes.
    """

    def __init__(
        self, windows: Windows, batch_size: int, seed: int, part: int = 0, parts: int = 1, steps: int = 0
    ) -> None:
        """steps: batches of an epoch, for which the windows come round again and again; 0: each window once."""
        self.windows, self.batch_size, self.seed, self.steps = windows, batch_size, seed, steps
        self.part, self.parts = part, parts
        self.epoch = 0

    def state_dict(self) -> dict[str, int]:
        """What the plan depends on besides the windows; how many processes share it is no part of that."""
        return {"seed": self.seed, "batch_size": self.batch_size, "epoch": self.epoch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on with the plan of that epoch. Raises ValueError for the state of another plan."""
        if (state["seed"], state["batch_size"]) != (self.seed, self.batch_size):
            raise ValueError(f"the sampler's state {state} is not of seed {self.seed} and batch_size {self.batch_size}")
        self.epoch = state["epoch"]

    def plan(self, epoch: int) -> list[np.ndarray]:
        """The batches of an epoch, as numbers of windows."""
        batches = self._round(epoch, ())
        while self.steps and len(batches) < self.steps:
            batches += self._round(epoch, (len(batches),))
        return batches[: self.steps] if self.steps else batches

    def _round(self, epoch: int, more: tuple[int, ...]) -> list[np.ndarray]:
        """Every window once."""
        generator = np.random.default_rng((self.seed, epoch, *more))
        order = generator.permutation(len(self.windows.length))
        length = self.windows.length[order]
        # Pools of shuffled windows, each sorted by length, then cut wherever another batch_size targets are full.
        pool = np.cumsum(self.windows.counts[order]) // (self.batch_size * POOL_BATCHES)
        order = order[np.lexsort((length, pool))]
        filled = np.cumsum(self.windows.counts[order]) - 1
        cuts = np.flatnonzero(np.diff(filled // self.batch_size)) + 1
        batches = np.split(order, cuts)
        return [batches[i] for i in generator.permutation(len(batches))]

    def __iter__(self) -> Iterator[np.ndarray]:
        # A generator: the plan is made at the first step, because Lightning takes the iterator of a resumed epoch before it says which it is.
        plan = self.plan(self.epoch)
        yield from plan if self.parts == 1 else map(self.part_of, plan)

    def part_of(self, batch: np.ndarray) -> Part:
        """This process's windows of a batch: every ``parts``-th, so that the lengths, by which a batch is sorted, are spread evenly.

        The loss of a batch is a mean over its targets. The processes' gradients are averaged with equal weight, so a part with n of
        the batch's N targets is weighted by ``parts * n / N``. A process that gets no window, for all must step together, gets the first
        one, with weight 0.
        """
        own = batch[self.part :: self.parts]
        if not len(own):
            return Part(batch[:1], 0.0)
        weights = self.windows.weights
        return Part(own, float(self.parts * weights[own].sum() / weights[batch].sum()))

    def __len__(self) -> int:
        """Batches of an epoch; an upper bound where a window alone is longer than ``batch_size``."""
        return self.steps or self._in_a_round()

    def _in_a_round(self) -> int:
        """Batches in which every window comes once."""
        return max(1, -(-int(self.windows.counts.sum()) // self.batch_size))

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
