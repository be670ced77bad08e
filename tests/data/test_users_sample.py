"""``protocol.users``: a seeded sample of the users who are asked, the same for every model."""

import numpy as np
import pytest

from recbench.core.errors import UserError
from recbench.data.protocol import LeaveOneOutConfig, SampledConfig
from recbench.data.split import make_split


def test_fewer_users_are_the_same_for_every_part_and_change_no_training(random_data):
    whole, some = (make_split(random_data, LeaveOneOutConfig(users=users), None) for users in (None, 20))
    assert some.protocol_id == whole.protocol_id.replace("-v1", "-users20.s0-v1")
    assert some.split_hash != whole.split_hash
    assert (some.train_end == whole.train_end).all()
    assert len(some.test) == len(some.validation) == 20
    assert (some.test.user == some.validation.user).all()
    place = np.searchsorted(whole.test.user, some.test.user)
    assert (whole.test.targets[place] == some.test.targets).all()
    other = make_split(random_data, LeaveOneOutConfig(users=20, users_seed=1), None)
    assert set(other.test.user) != set(some.test.user)
    everybody = make_split(random_data, LeaveOneOutConfig(users=10_000), None)
    assert len(everybody.test) == len(whole.test)


def test_fewer_users_keep_the_candidates_that_were_drawn_for_all(random_data, tmp_path):
    whole, some = (
        make_split(random_data, SampledConfig(n_candidates=9, users=users), tmp_path) for users in (None, 20)
    )
    place = np.searchsorted(whole.test.user, some.test.user)
    assert (whole.test.candidates[place] == some.test.candidates).all()
    for users, seed, message in ((0, 0, "protocol.users=0 must be"), (5, -1, "protocol.users_seed=-1 must not")):
        with pytest.raises(UserError, match=message):
            make_split(random_data, LeaveOneOutConfig(users=users, users_seed=seed), None)
