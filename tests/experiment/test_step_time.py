"""The time of a training step, for estimates of hours."""

import pytest

from recbench.config.compose import compose
from recbench.experiment import step_time
from recbench.experiment.context import RunContext


@pytest.mark.parametrize(("batch_size", "expected"), [(200, 0.2), (100_000, 25.0)])
def test_what_the_first_step_makes_for_all_others_is_counted_only_where_there_is_no_other(
    batch_size, expected, tiny, monkeypatch
):
    seconds = iter([25.0, 0.1, 0.3, 0.2])
    monkeypatch.setattr(step_time, "_step", lambda *parts: next(seconds))
    config = compose((*tiny, "model=sasrec", f"training.batch_size={batch_size}"))
    assert step_time.time_step(config, RunContext.of(config)).step == expected


@pytest.mark.parametrize("model", ["rpg", "tiger"])
def test_a_generator_is_timed_with_random_codes_before_its_tokenizer_has_run(model, tiny):
    config = compose((*tiny, f"model={model}", "model.tokenizer.model=rq_kmeans", "model.tokenizer.codebook_size=8"))
    found = step_time.time_step(config, RunContext.of(config))
    assert found.step > 0
    assert found.validation > 0
