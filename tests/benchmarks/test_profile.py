"""What a step's operations are told to be, and what they are told to need."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from benchmarks import operations as ops
from benchmarks.floor import Speeds
from benchmarks.profile import Kinds, profiled, table, undisturbed
from benchmarks.steps import steps_of
from recbench.experiment.context import RunContext
from recbench.nn.losses.catalogue import CatalogueLoss, LossConfig
from recbench.nn.transformer.dropout import Dropout

SPEEDS = Speeds(*[1e9] * 8)


class Tiny(nn.Module):
    """A look-up, a norm, a layer, dropout, and the loss over the catalogue."""

    def __init__(self):
        super().__init__()
        self.table, self.norm, self.layer = nn.Embedding(30, 8), nn.LayerNorm(8), nn.Linear(8, 8)
        self.dropout, self.loss = Dropout(0.5), CatalogueLoss(LossConfig(), 29)

    def forward(self, items, targets):
        return self.loss(self.dropout(self.layer(self.norm(self.table(items)))), self.table.weight, targets)


@pytest.fixture
def counted():
    torch.manual_seed(0)
    model = Tiny()
    counting = ops.Counting(ops.Scopes(model), SPEEDS)
    with counting:
        model(torch.arange(1, 6), torch.arange(2, 7)).backward()
    return counting.needs


def test_products_are_told_apart_and_counted(counted):
    # Logits and two gradients; a layer, its gradient by the weight and by the input.
    assert counted[ops.CATALOGUE].flop["fp32"] == 3 * 2 * 5 * 30 * 8
    assert counted[ops.PRODUCTS].flop["fp32"] == 3 * 2 * 5 * 8 * 8


def test_the_softmax_of_the_loss_is_found(counted):
    assert counted[ops.LOSS].softmax["fp32"] == 5 * 30


def test_the_backward_pass_belongs_to_what_it_differentiates(counted):
    # The gradient of a dropout is one multiplication: five rows of eight float32 from two operands into a third.
    forward = ops.Counting(ops.Scopes(model := Dropout(0.5)), SPEEDS)
    x = torch.ones(5, 8, requires_grad=True)
    with forward:
        model(x)
    gained = counted[ops.DROPOUT].bytes_near - forward.needs[ops.DROPOUT].bytes_near
    assert gained == 3 * 5 * 8 * 4
    assert set(counted) >= {ops.NORM, ops.LOOKUP}


def test_rows_that_are_looked_up_cost_rows_and_not_the_table():
    table, index = torch.zeros(1000, 8), torch.arange(3)
    out = table[index]
    assert ops.bytes_of("index", [table, index], [out]) == 2 * out.nbytes + index.nbytes
    assert ops.bytes_of("mul", [out, out], [out]) == 3 * out.nbytes


def test_the_fused_attention_of_a_cpu_is_counted():
    q = torch.zeros(2, 3, 5, 4)
    name = "_scaled_dot_product_flash_attention_for_cpu"
    assert ops.attention_flop(name, [q, q, q]) == 2 * 2 * (2 * 3 * 5 * 5 * 4)
    assert ops.attention_flop(name + "_backward", [q, q, q, q]) == 5 * 2 * (2 * 3 * 5 * 5 * 4)
    assert ops.attention_flop("mul", [q, q, q]) == 0


@pytest.fixture(scope="module")
def steps(run_config, tmp_path_factory):
    config = run_config(tmp_path_factory.mktemp("runs"), "model=sasrec", "training.batch_size=64")
    return steps_of(config, RunContext.of(config), 4, torch.device("cpu"))


def test_a_profiled_step_is_told_by_kind(steps):
    assert undisturbed(steps, 1) > 0
    kinds, seconds = profiled(steps, ops.Scopes(steps.learner), 2)
    for kind in (ops.CATALOGUE, ops.PRODUCTS, ops.LOSS, ops.DROPOUT, ops.NORM, ops.LOOKUP, ops.OPTIMISER, ops.DATA):
        assert kinds.seconds[kind] > 0, kind
    # Own times of nested events add up to the whole, whatever they are called.
    assert sum(kinds.seconds.values()) == pytest.approx(seconds, rel=0.3)
    assert kinds.calls[ops.CATALOGUE] == 3


def test_the_table_names_the_largest_gap():
    kinds = Kinds([], on_gpu=False)
    kinds.seconds.update({ops.CATALOGUE: 0.010, ops.DROPOUT: 0.004})
    needs = {ops.CATALOGUE: ops.Need(seconds=0.009), ops.DROPOUT: ops.Need(seconds=0.001)}
    text = table(kinds, needs, 0.012)
    assert "Largest gap: dropout, 3.00 ms" in text
    assert "12.0 ms, 1.2 times the floor" in text


def test_a_model_is_built_with_what_it_stands_on(run_config, tmp_path):
    config = run_config(tmp_path, "model=slmrec", "training.batch_size=64")
    steps = steps_of(config, RunContext.of(config), 1, torch.device("cpu"))
    before = {name: value.clone() for name, value in steps.model.state_dict().items()}
    steps.take(0, nullcontext, nullcontext)
    moved = {name for name, value in steps.model.state_dict().items() if not torch.equal(value, before[name])}
    assert "item_table" not in moved
    assert "item_to_state.weight" in moved
    assert set(steps.learner.sums) > {"loss", "recommendation"}  # the teacher's terms are there
