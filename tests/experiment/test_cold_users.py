"""A split that asks about users without training events, and a model that has a vector for each training user."""

from types import SimpleNamespace

import numpy as np
import pytest

from recbench.core.errors import UserError
from recbench.experiment.dependencies import check_users


def stage_of(validated, tested):
    """Four users, of whom the last two have no training event."""
    split = SimpleNamespace(
        protocol_id="temporal-v1",
        train_start=np.array([0, 3, 5, 6]),
        train_end=np.array([3, 4, 5, 6]),
        validation=SimpleNamespace(user=np.array(validated)),
        test=SimpleNamespace(user=np.array(tested)),
    )
    return SimpleNamespace(split=split)


@pytest.mark.parametrize("model", ["bpr_mf", "lightgcn"])
def test_users_without_training_events_are_counted_and_refused_before_training(run_config, tmp_path, model):
    config = run_config(tmp_path, f"model={model}")
    check_users(config, stage_of([0, 1], [0, 1]))
    for stage, told in ((stage_of([0, 3], [0]), "validates 1 users"), (stage_of([0], [2, 3, 2, 1]), "tests 2 users")):
        with pytest.raises(
            UserError, match=rf"temporal-v1 {told} .*'{model}' has no vector.*model\.cold_users=fold_in"
        ):
            check_users(config, stage)
    check_users(run_config(tmp_path, f"model={model}", "model.cold_users=fold_in"), stage_of([3], [3]))


def test_models_that_read_histories_are_asked_about_anybody(run_config, tmp_path):
    for model in ("sasrec", "multivae", "ials"):
        check_users(run_config(tmp_path, f"model={model}"), stage_of([3], [3]))
