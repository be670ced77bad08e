"""Sessions that somebody else prepared, and the counts of the published files."""

import gzip

import numpy as np
import pytest

from recbench.core.errors import UserError
from recbench.data.protocol import SessionsConfig
from recbench.data.sources.session_file import SessionFileConfig
from recbench.data.split import make_split, protocol_view
from recbench.data.store import prepare


def prepared(folder, learned, asked="a b\n", **settings):
    (folder / "train.txt").write_text(learned)
    if asked is not None:
        (folder / "test.txt").write_text(asked)
    return prepare(SessionFileConfig(raw_dir=str(folder), **settings), folder / "cache")


def sequences(data):
    """raw user id -> raw items."""
    items, users = data.item_table()["item"], data.user_ids()["user_id"]
    rows = [data.items[a:b] for a, b in zip(data.offsets[:-1], data.offsets[1:], strict=True)]
    return {user: [items[int(i) - 1] for i in row] for user, row in zip(users, rows, strict=True)}


def test_lines_are_sessions_in_the_order_of_their_items(tmp_path):
    data = prepared(tmp_path, "a b a\n\nc\tb  a\r\n", "b c")
    assert sequences(data) == {"train:1": ["a", "b", "a"], "train:3": ["c", "b", "a"], "test:1": ["b", "c"]}
    assert not data.has_timestamps
    assert data.manifest["counts"] == {"rows_read": 8, "rows_train": 6, "rows_test": 2}


def test_files_may_be_gzip_and_lie_anywhere(tmp_path):
    plain = prepared(tmp_path, "a b\n", "b a\n")
    (tmp_path / "other").mkdir()
    for name, text in (("one", b"a b\n"), ("two", b"b a\n")):
        (tmp_path / "other" / f"{name}.gz").write_bytes(gzip.compress(text))
    config = SessionFileConfig(train=str(tmp_path / "other" / "one"), test=str(tmp_path / "other" / "two.gz"))
    assert prepare(config, tmp_path / "cache").fingerprint == plain.fingerprint


@pytest.mark.parametrize(
    ("train", "test", "settings", "message"),
    [
        ("", "a b\n", {}, "holds no session"),
        ("a b\n", None, {}, "data.test: there is no file .* set data.test=null"),
        ("a b\n", "a b\n", {"train": "tain.txt"}, "data.train: there is no file"),
        ("a b\n", "a b\n", {"session_gap": 60}, "data.session_gap=60 needs timestamps"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, train, test, settings, message):
    with pytest.raises(UserError, match=message):
        prepared(tmp_path, train, test, **settings)


def test_a_gzip_cut_short_and_a_file_that_is_no_text_are_refused(tmp_path):
    whole = gzip.compress(b"".join(b"%d %d\n" % (i, i * 7) for i in range(5000)))
    (tmp_path / "train.txt.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "test.txt").write_text("1 2\n")
    with pytest.raises(UserError, match=r"train\.txt\.gz is cut short"):
        prepare(SessionFileConfig(raw_dir=str(tmp_path)), tmp_path / "cache")
    (tmp_path / "train.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is not text near its line 1"):
        prepare(SessionFileConfig(raw_dir=str(tmp_path)), tmp_path / "cache")


def test_sessions_of_one_event_only_are_refused(tmp_path):
    data = prepared(tmp_path, "a,b,c\na,c\n", "a,b\n")  # the wrong separator
    with pytest.raises(UserError, match="all 3 sessions of these data have one event only"):
        protocol_view(data, SessionsConfig())


def test_the_border_of_the_files_is_the_border_of_the_test(tmp_path):
    lines = "".join(f"a b c{i % 2}\n" for i in range(10))
    config = SessionsConfig(test_quantile=0.8)
    view = protocol_view(prepared(tmp_path, lines, "b a\na c0 b\n"), config)
    split = make_split(view, config, None)
    names = view.user_ids()["user_id"].to_list()
    assert names == [*(f"train:{i}" for i in range(1, 11)), "test:1", "test:2"]
    assert np.flatnonzero(split.train_end > split.train_start).tolist() == list(range(8))
    assert sorted(set(split.validation.user)) == [8, 9]
    assert split.test.user.tolist() == [10, 11, 11]
    assert split.protocol_id == "sessions-given-q0.8-full-keep-v1"


def test_one_file_alone_is_cut_by_quantile(tmp_path):
    config = SessionsConfig(test_quantile=0.5)
    view = protocol_view(prepared(tmp_path, "a b\n" * 8, None, test=None), config)
    split = make_split(view, config, None)
    assert sorted(set(split.test.user)) == [4, 5, 6, 7]
    assert sorted(set(split.validation.user)) == [2, 3]
    assert split.protocol_id == "sessions-q0.5-full-keep-v1"


@pytest.mark.parametrize(("config", "key"), [({"test_days": 3}, "test_days"), ({"strict_cuts": True}, "strict_cuts")])
def test_what_needs_a_clock_is_refused(tmp_path, config, key):
    with pytest.raises(UserError, match=f"protocol.{key} needs timestamps"):
        protocol_view(prepared(tmp_path, "a b\n" * 8), SessionsConfig(**config))


@pytest.mark.parametrize(
    ("name", "train", "test", "items"),
    [
        ("diginetica", 719_470, 60_858, 43_097),
        ("tmall", 351_268, 25_898, 40_727),
        ("nowplaying", 825_304, 89_824, 60_416),
    ],
)
def test_case_counts_of_the_published_files(shared_data, tmp_path, name, train, test, items):
    folder = shared_data / "sessions" / name
    if not folder.is_dir():
        pytest.skip(f"../shared/data/sessions/{name} is not here")
    config = SessionsConfig(fit_on_validation=True)
    view = protocol_view(prepare(SessionFileConfig(raw_dir=str(folder)), tmp_path), config)
    split = make_split(view, config, None)
    learned = split.train_end - split.train_start
    assert np.maximum(learned - 1, 0).sum() == train
    assert (len(split.test), view.n_items) == (test, items)
    assert split.audit["cold_targets"] == 0
