"""Where blocks end, and which states stand there."""

from __future__ import annotations

import pytest
import torch

from recbench.core.errors import UserError
from recbench.objectives.distillation.blocks import block_ends, read_states, step_state


@pytest.mark.parametrize(
    ("n_blocks", "ends"), [(1, [8]), (2, [4, 8]), (4, [2, 4, 6, 8]), (8, [1, 2, 3, 4, 5, 6, 7, 8])]
)
def test_blocks_end_at_even_steps(build, n_blocks, ends):
    assert block_ends(build("slmrec", n_layers=8), n_blocks, "teacher", "slmrec") == ends


@pytest.mark.parametrize("n_blocks", [3, 0, -2, 16])
def test_blocks_that_do_not_divide_the_depth_are_refused(build, n_blocks):
    with pytest.raises(
        UserError, match=rf"distillation.n_blocks={n_blocks} does not divide the 8 layers of the teacher"
    ):
        block_ends(build("slmrec", n_layers=8), n_blocks, "teacher", "slmrec")


def test_a_model_without_layers_is_refused(build):
    with pytest.raises(
        UserError, match="the teacher 'markov' has no layers to cut into blocks; distillation=slmrec needs"
    ):
        block_ends(build("markov"), 2, "teacher", "slmrec")


@pytest.mark.parametrize("name", ["sasrec", "slmrec"])
def test_states_are_read_row_by_row_and_only_inner_ones_are_normed(build_teacher, batch, by_position, name):
    teacher = build_teacher(name, n_layers=4)
    states = teacher.hidden_states(batch)
    read = read_states(teacher, batch, [2, 4], normed=True)
    assert list(read) == ["state_2", "state_4"]
    for n, (b, i) in enumerate(by_position(batch)):
        torch.testing.assert_close(read["state_2"][n], teacher.normed(states[2][b, i]))
        assert torch.equal(read["state_4"][n], states[4][b, i])
    assert not torch.allclose(read["state_2"], read_states(teacher, batch, [2], normed=False)["state_2"])
    assert step_state(teacher, states, 4, normed=True) is states[4]
