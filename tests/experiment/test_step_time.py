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


STANDS_ON_A_RUN = ["e4srec", "llamarec", "llmgr", "p5", "preference", "rec_lora", "slmrec", "x_cross"]


@pytest.mark.parametrize("model", STANDS_ON_A_RUN)
def test_a_model_that_stands_on_another_run_is_timed_before_that_run_exists(model, tiny, tmp_path):
    config = compose((*tiny, f"model={model}", f"runs_dir={tmp_path}", "training.max_length=10"))
    found = step_time.time_step(config, RunContext.of(config))
    assert found.step > 0
    assert found.validation > 0
    assert not list(tmp_path.iterdir())


def test_a_computed_run_that_another_needs_is_computed(tiny):
    config = compose((*tiny, "model=llamarec", "model.retriever={model: markov}", "training.max_length=10"))
    assert step_time.time_step(config, RunContext.of(config)).step > 0
