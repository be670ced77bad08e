"""What is laid over a loss with a weight of 0 leaves training as it is, bit for bit."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from recbench.experiment.run import run

SHORT = ("training.max_epochs=1", "tuned=off", "model.hidden_size=16", "model.n_layers=1")
IDLE = {
    "vat": ("model.vat.weight=0",),
    "sra_cl": ("model.sra_cl.weight=0", "model.sra_cl.user_weight=0"),
    "fairrec": ("model.fairrec.weight=0", "model.fairrec.attribute=group"),
}


@pytest.fixture(scope="module")
def plain(run_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("idle")
    return folder, run(run_config(folder, "model=sasrec", *SHORT)).folder


@pytest.mark.parametrize("name", IDLE)
def test_of_weight_0_it_is_the_plain_run(plain, run_config, name):
    folder, without = plain
    idle = run(run_config(folder, "model=sasrec", *SHORT, f"model.auxiliary=[{name}]", *IDLE[name])).folder
    assert idle.key != without.key
    ours, theirs = load_file(without.weights), load_file(idle.weights)
    assert all(torch.equal(ours[part], theirs[part]) for part in ours)
