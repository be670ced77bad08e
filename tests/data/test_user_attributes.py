"""Attributes of users from a table and from the generator, in the numbers of the data."""

import numpy as np
import pytest

from recbench.core.errors import UserError
from recbench.data.beside_config import UsersConfig
from recbench.data.prepared import PreparedData
from recbench.data.sources.synthetic_config import SyntheticConfig
from recbench.data.sources.table_config import TableConfig
from recbench.data.store import prepare
from recbench.data.user_attributes import user_attributes, users_key


@pytest.fixture
def data(tmp_path):
    return PreparedData.from_arrays(
        tmp_path / "data", np.array([1, 2, 1]), np.array([0, 1, 2, 3]), user_ids=["7", "3", "5"]
    )


def config(tmp_path, text, **keys):
    path = tmp_path / "users.txt"
    path.write_text(text)
    return TableConfig(path="events.csv", users=UsersConfig(path=str(path), **keys))


def test_rows_find_their_users_and_what_is_not_known_is_null(data, tmp_path):
    asked = config(tmp_path, "uid,gender,age\n3,F,25\n9,M,18\n7,,56\n", user="uid")
    assert user_attributes(data, asked, tmp_path).to_dict(as_series=False) == {
        "user": [0, 1, 2],
        "gender": [None, "F", None],
        "age": ["56", "25", None],
    }


def test_a_file_without_a_header_as_movielens_has_it(data, tmp_path):
    asked = config(tmp_path, "5::F::1::10\n3::M::56::16\n", header=False, user="1", attributes=["2", "3"])
    assert user_attributes(data, asked, tmp_path)["3"].to_list() == [None, "56", "1"]
    before = users_key(asked, tmp_path)
    assert (
        users_key(
            config(tmp_path, "5::F::1::10\n3::M::56::167\n", header=False, user="1", attributes=["2", "3"]), tmp_path
        )
        != before
    )


@pytest.mark.parametrize(
    ("text", "keys", "words"),
    [
        ("user,a\n3,x\n3,y\n", {}, r"the user '3' stands more than once"),
        ("user,a\n30,x\n", {}, r"knows none of the 3 users; its first is '30', that of the data '7'"),
        ("uid,a\n3,x\n", {}, r"has no column 'user'; it has uid, a"),
        ("user,a\n,x\n", {}, r"line 2: an empty field"),
        ("user,a\n", {}, r"holds no usable row"),
    ],
)
def test_mistakes_are_answered(data, tmp_path, text, keys, words):
    with pytest.raises(UserError, match=words):
        user_attributes(data, config(tmp_path, text, **keys), tmp_path)


def test_generated_users_have_theirs_and_other_data_say_that_they_have_none(data, tmp_path):
    small = SyntheticConfig(n_users=60, n_items=40, n_clusters=5)
    found = user_attributes(prepare(small, tmp_path), small, tmp_path)
    assert found.columns == ["user", "group", "age", "region"]
    assert not found.null_count().sum_horizontal().item()
    with pytest.raises(UserError, match=r"data=table knows nothing of its users; name a table with data\.users\.path"):
        user_attributes(data, TableConfig(path="e.csv"), tmp_path)
    with pytest.raises(UserError, match="twice"):
        TableConfig(path="e.csv", users=UsersConfig(attributes=["a", "a"])).validate()
