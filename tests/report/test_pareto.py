"""The Pareto front."""

from __future__ import annotations

from itertools import product

import numpy as np

from recbench.report.pareto import axes_of, front


def test_the_front_is_exactly_what_nothing_dominates():
    generator = np.random.default_rng(0)
    pairs = {str(i): (float(c), float(v)) for i, (c, v) in enumerate(generator.integers(0, 8, (40, 2)))}
    on_front = {point.name for point in front(pairs) if point.on_front}
    values = {pairs[name] for name in on_front}
    for (cost, value), (other_cost, other_value) in product(pairs.values(), values):
        assert not (cost <= other_cost and value >= other_value and (cost, value) != (other_cost, other_value))
    for cost, value in pairs.values():
        assert any(c <= cost and v >= value for c, v in values)


def test_a_cost_that_only_one_row_has_is_no_axis(folders):
    from recbench.report.boards import boards_of
    from recbench.report.collect import read_folder

    folders.add("a-1", 0.2, config={"model": {"name": "a"}}, **{"cost/energy_joules": 3.0})
    folders.add("b-1", 0.8, config={"model": {"name": "b"}})
    (board,) = boards_of(read_folder(folders.path))
    assert [axis.name for axis, _ in axes_of(board)] == ["parameters_total", "train_seconds", "latency_p50_ms"]
