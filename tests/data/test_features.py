"""Vectors of items from files: by number and by id, what is wrong with them, and whose keys they enter."""

import gzip

import numpy as np
import polars as pl
import pytest

from recbench.config.compose import compose
from recbench.core.errors import UserError
from recbench.data.beside_config import FeaturesConfig
from recbench.data.features import features_key, item_features
from recbench.data.prepared import PreparedData
from recbench.data.sources.synthetic_config import SyntheticConfig
from recbench.data.sources.table_config import TableConfig
from recbench.data.store import prepare

VECTORS = np.arange(10, dtype=np.float16).reshape(5, 2)


def numbered(folder, ids=("4", "0", "2")):
    table = pl.DataFrame({"item": list(ids)})
    return PreparedData.from_arrays(folder / "data", np.array([1, 2, 3]), np.array([0, 3]), item_table=table)


def config(**features):
    return TableConfig(path="events.csv", features=FeaturesConfig(**features))


@pytest.mark.parametrize("packed", [False, True])
def test_row_r_of_an_array_is_raw_item_r(tmp_path, packed):
    data, path = numbered(tmp_path), tmp_path / "image.npy"
    np.save(path, VECTORS)
    if packed:
        path = tmp_path / "image.npy.gz"
        path.write_bytes(gzip.compress((tmp_path / "image.npy").read_bytes()))
    found = item_features(data, config(image=str(path)), tmp_path)
    assert list(found) == ["image"]
    assert found["image"].dtype == np.float32
    assert found["image"].tolist() == [[0, 0], [8, 9], [0, 1], [4, 5]]
    # Read again from what was kept, and by the content of the file wherever it lies.
    (tmp_path / "elsewhere").mkdir()
    moved = path.rename(tmp_path / "elsewhere" / path.name)
    again = item_features(data, config(image=str(moved)), tmp_path)
    assert np.array_equal(again["image"], found["image"])
    assert len(list((data.folder / "features").iterdir())) == 1


def test_ids_beside_an_array_and_several_kinds(tmp_path):
    data = numbered(tmp_path, ("a", "b", "c"))
    np.save(tmp_path / "image.npy", VECTORS[:2])
    (tmp_path / "image.txt").write_text("c\na\n")
    np.savez(tmp_path / "audio.npz", item=np.array(["b", "x"]), vector=np.ones((2, 3)))
    wanted = config(image=str(tmp_path / "image.npy"), audio=str(tmp_path / "audio.npz"))
    found = item_features(data, wanted, tmp_path)
    assert found["image"].tolist() == [[0, 0], [2, 3], [0, 0], [0, 1]]
    assert found["audio"].tolist() == [[0] * 3, [0] * 3, [1] * 3, [0] * 3]


def test_mistakes_are_answered_with_file_and_counts(tmp_path):
    data, path = numbered(tmp_path), tmp_path / "image.npy"

    def refuses(words, vectors, of=data):
        np.save(path, vectors)
        with pytest.raises(UserError, match=words):
            item_features(of, config(image=str(path)), tmp_path)

    refuses(r"image.npy has 4 rows, but the items go to the raw id 4, which would be row 4 of at least 5", VECTORS[:4])
    refuses(r"NaN or infinity, in 1 of 5 rows", np.where(VECTORS == 3, np.nan, VECTORS))
    refuses(r"do not fit vectors of shape \(5,\)", VECTORS[:, 0])
    refuses(r"such as 'a', are no numbers.*image\.txt", VECTORS, numbered(tmp_path / "named", ("a", "b", "c")))
    with pytest.raises(UserError, match=r"data\.features\.audio=.*none\.npy is not there"):
        item_features(data, config(audio=str(tmp_path / "none.npy")), tmp_path)
    with pytest.raises(UserError, match=r"data\.features\.audio=.*mp3 is of no known kind"):
        item_features(data, config(audio="sound.mp3"), tmp_path)
    with pytest.raises(UserError, match=r"data\.features\.shuffle must be a seed"):
        config(shuffle=-1).validate()


def test_generated_vectors_follow_their_items_and_the_key_tells_files_apart(tmp_path):
    small = SyntheticConfig(n_users=60, n_items=40, n_clusters=5)
    data = prepare(small, tmp_path)
    found = item_features(data, small, tmp_path)
    assert {kind: table.shape for kind, table in found.items()} == {
        "image": (data.n_items + 1, 32),
        "audio": (data.n_items + 1, 16),
    }
    other = SyntheticConfig(n_users=60, n_items=40, n_clusters=5, feature_signal=0.1)
    assert features_key(small, tmp_path) != features_key(other, tmp_path)
    assert not np.array_equal(item_features(data, other, tmp_path)["image"], found["image"])
    np.save(tmp_path / "image.npy", VECTORS)
    first = features_key(config(image=str(tmp_path / "image.npy")), tmp_path)
    np.save(tmp_path / "image.npy", VECTORS + 1)
    assert features_key(config(image=str(tmp_path / "image.npy")), tmp_path) != first


def test_they_can_be_asked_for_on_the_command_line():
    asked = compose(("data.features.image=image.npy", "data.features.text=titles"))
    assert asked.data.features == FeaturesConfig(image="image.npy", text="titles")
    assert asked.data.features.files() == {"image": "image.npy"}
