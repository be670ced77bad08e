"""The one list of cost columns."""

from __future__ import annotations

from recbench.report.columns import AXES, BY_NAME, COSTS, ON_PAGE, ON_TERMINAL, RECORDED


def test_every_cost_has_one_name_one_heading_and_can_be_written():
    assert len(BY_NAME) == len(COSTS) == len({cost.heading for cost in COSTS})
    for cost in COSTS:
        assert cost.help
        assert cost.show(0.0)
        assert len(cost.show(1_234_567.0)) <= 12


def test_parts_of_the_list_are_parts_of_it():
    assert set(RECORDED) <= set(BY_NAME)
    assert {cost.name for cost in ON_PAGE} <= set(BY_NAME)
    assert {axis.name for axis in AXES} <= set(BY_NAME)
    assert {name.removeprefix("cost/") for name in ON_TERMINAL} <= set(BY_NAME)


def test_the_first_cost_columns_of_a_results_csv_are_those_of_the_stored_ones():
    assert RECORDED == (
        "parameters_total", "parameters_trainable", "train_seconds", "epochs", "best_epoch", "seconds_per_epoch", "test_seconds",
    )  # fmt: skip
