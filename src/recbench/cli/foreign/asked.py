"""Data and protocol of words, without a model of ours."""

from __future__ import annotations

from collections.abc import Sequence

from recbench.config.compose import composed, plain_mistakes
from recbench.config.run import RunConfig


def asked_run(words: Sequence[str]) -> RunConfig:
    """A config whose data, protocol and evaluation are what the words say. Raises UserError for wrong ones."""
    with plain_mistakes():
        return RunConfig.from_hydra(composed(("model=popularity", "tracking=off", "hardware=cpu", *words)))
