"""Ratings, reviews and texts of users: kept where they are asked for, at their events, and in no key of who does not ask."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from recbench.core.errors import UserError
from recbench.data import parts as parts_module
from recbench.data.beside_config import UsersConfig
from recbench.data.kept import kept_key
from recbench.data.meetings import FirstMeetings
from recbench.data.protocol import HoldoutConfig
from recbench.data.renumbered import renumbered
from recbench.data.sources.amazon import AmazonConfig
from recbench.data.sources.synthetic_config import SyntheticConfig
from recbench.data.sources.table_config import Columns, TableConfig
from recbench.data.split import protocol_view
from recbench.data.store import prepare
from recbench.data.user_text import user_text_key, user_texts

ROWS = [
    # user, item, time, rating, headline, text
    ("A", "x", 20, 4.0, "Fine", "I liked it."),
    ("A", "y", 10, 2.0, "", "Broke."),
    ("B", "x", 10, None, "Good", None),
    ("B", "y", 30, 5.0, None, None),
    ("B", "y", 30, 1.0, "Copy", "of the one before"),
]
NAMES = {"2018": ("reviewerID", "asin", "unixReviewTime", "overall", "summary", "reviewText"),
         "2023": ("user_id", "parent_asin", "timestamp", "rating", "title", "text")}  # fmt: skip


def amazon(tmp_path, version="2018", rows=ROWS, **keys):
    """A hand-made file of a release, without filters."""
    (tmp_path / "raw").mkdir(parents=True, exist_ok=True)
    made = [{name: value for name, value in zip(NAMES[version], row, strict=True) if value is not None} for row in rows]
    for row in made:
        if version == "2023":
            row["timestamp"] *= 1000
    name = "Toys_and_Games.json" if version == "2018" else "Toys_and_Games.jsonl"
    (tmp_path / "raw" / name).write_text("".join(json.dumps(row) + "\n" for row in made))
    keys = {"files": "full", "k_core": 0, **keys}
    return AmazonConfig(version=version, category="Toys and Games", raw_dir=str(tmp_path / "raw"), **keys)


def by_event(data):
    """(user, item) -> (rating, review)."""
    users, items = data.user_ids()["user_id"].to_list(), ["", *data.item_table()["item"].to_list()]
    owner = np.repeat(np.arange(data.n_users), data.lengths())
    ratings = [None if np.isnan(r) else float(r) for r in data.ratings]
    pairs = [(users[u], items[i]) for u, i in zip(owner, data.items, strict=True)]
    return dict(zip(pairs, zip(ratings, data.reviews().to_list(), strict=True), strict=True))


EXPECTED = {
    ("A", "x"): (4.0, "Fine. I liked it."),
    ("A", "y"): (2.0, "Broke."),
    ("B", "x"): (None, "Good"),
    ("B", "y"): (5.0, None),
}


@pytest.mark.parametrize("version", NAMES)
def test_they_stand_at_their_events_and_change_no_key(version, tmp_path, monkeypatch):
    plain = prepare(amazon(tmp_path, version), tmp_path / "cache")
    kept = prepare(amazon(tmp_path, version, keep=["ratings", "reviews"]), tmp_path / "cache")
    assert by_event(kept) == EXPECTED
    assert plain.folder != kept.folder
    assert plain.fingerprint == kept.fingerprint
    assert plain.ratings is None
    assert not plain.has_reviews
    assert kept_key(plain.manifest, ["ratings"]) == {}
    assert kept_key(kept.manifest, ["ratings"]).keys() == {"ratings"}
    assert plain.folder.name == prepare(amazon(tmp_path, version, keep=[]), tmp_path / "cache").folder.name
    monkeypatch.setattr(parts_module, "PART_ROWS", 2)
    in_parts = prepare(amazon(tmp_path, version, keep=["ratings", "reviews"]), tmp_path / "other")
    assert by_event(in_parts) == EXPECTED
    assert in_parts.manifest["kept"] == kept.manifest["kept"]


def test_another_rating_is_another_key_of_who_reads_ratings(tmp_path):
    def keyed(rating):
        data = prepare(
            amazon(tmp_path, rows=[("A", "x", 1, rating, "", "fine")], keep=["ratings", "reviews"]), tmp_path / "c"
        )
        return kept_key(data.manifest, ["ratings", "reviews"])

    one, other = keyed(3.0), keyed(4.0)
    assert one["ratings"] != other["ratings"]
    assert one["reviews"] == other["reviews"]


def test_views_keep_them(tmp_path):
    data = prepare(amazon(tmp_path, keep=["ratings", "reviews"]), tmp_path / "cache")
    assert by_event(protocol_view(data, HoldoutConfig(order="random", min_events=3))) == EXPECTED
    rows = [("A", "y", 10, 2.0, "", "Broke."), ("C", "z", 10, 1.0, "", "No.")]
    known = prepare(amazon(tmp_path, rows=rows), tmp_path / "known")
    seen, _ = renumbered(data, known, skip_unknown=True)
    assert by_event(seen) == {pair: EXPECTED[pair] for pair in (("A", "y"), ("B", "y"))}


def test_the_first_meeting_of_a_user_with_an_item(tmp_path):
    data = prepare(
        SyntheticConfig(n_users=20, n_items=10, n_clusters=2, max_length=15, allow_repeats=True, keep=["ratings"]),
        tmp_path,
    )
    met = FirstMeetings(data)
    users = np.arange(20)
    found = met.positions(users, np.tile(np.arange(11), (20, 1)))
    for user in users:
        events = data.items[data.offsets[user] : data.offsets[user + 1]].tolist()
        expected = [-1, *(data.offsets[user] + events.index(i) if i in events else -1 for i in range(1, 11))]
        assert found[user].tolist() == expected
    assert not np.isnan(data.ratings).any()


def test_a_table_has_them_where_its_columns_are_named(tmp_path):
    (tmp_path / "events.csv").write_text("user,item,stars,said\nu,a,4,good one\nu,b,,\nv,a,1,bad\n")
    columns = Columns(timestamp=None, rating="stars", review="said")
    data = prepare(
        TableConfig(path=str(tmp_path / "events.csv"), columns=columns, k_core=0, keep=["ratings", "reviews"]), tmp_path
    )
    assert by_event(data) == {("u", "a"): (4.0, "good one"), ("u", "b"): (None, None), ("v", "a"): (1.0, "bad")}


def test_synthetic_reviews_tell_the_item_and_what_it_was_given(tmp_path):
    sizes = {"n_users": 40, "n_items": 30, "n_clusters": 3, "max_length": 12}
    plain = prepare(SyntheticConfig(**sizes), tmp_path)
    data = prepare(SyntheticConfig(**sizes, keep=["ratings", "reviews"]), tmp_path)
    assert data.fingerprint == plain.fingerprint
    described = ["", *data.item_table()["description"].to_list()]
    words = {1: "awful", 2: "poor", 3: "fair", 4: "good", 5: "great"}
    for item, rating, review in zip(data.items.tolist(), data.ratings.tolist(), data.reviews().to_list(), strict=True):
        said, *rest = review.split()
        assert (said, rest) == (words[round(rating)], described[item].split()[:5])


def test_what_a_source_does_not_have_is_refused(tmp_path):
    table = tmp_path / "plain.csv"
    table.write_text("user,item\nu,a\n")
    for config, message in (
        (
            TableConfig(path=str(table), columns=Columns(timestamp=None), k_core=0, keep=["reviews"]),
            r"data.keep=\[reviews\] asks for reviews",
        ),
        (
            amazon(tmp_path, rows=[("A", "x", 1, None, None, None)], keep=["ratings"]),
            r"data.keep=\[ratings\] asks for ratings",
        ),
        (
            amazon(tmp_path / "other", rows=[("A", "x", 1, 2.0, None, None)], keep=["reviews"]),
            r"data.keep=\[reviews\] asks for reviews",
        ),
        (AmazonConfig(version="2023", files="5core", keep=["reviews"]), r"hold no reviews; set data.files=full"),
        (SyntheticConfig(keep=["stars"]), r"data.keep names 'stars'; choose from ratings, reviews"),
        (SyntheticConfig(keep=["ratings", "ratings"]), r"data.keep names 'ratings' twice"),
    ):
        with pytest.raises(UserError, match=message):
            prepare(config, tmp_path / "cache")


def test_gift_cards_have_real_ones(shared_data, tmp_path):
    config = AmazonConfig(
        version="2018", category="Gift_Cards", raw_dir=str(shared_data / "amazon"), keep=["ratings", "reviews"]
    )
    data = prepare(config, tmp_path)
    written = data.reviews()
    # The five-core file of 2018: 2,972 reviews before copies of one event go; nearly all have words.
    assert written.null_count() / len(written) < 0.01
    assert set(np.unique(data.ratings)) == {1.0, 2.0, 3.0, 4.0, 5.0}
    # Who gives five stars writes other words than who gives one or two.
    great = written.str.to_lowercase().str.contains("great|love|perfect").fill_null(False).to_numpy()
    assert great[data.ratings == 5].mean() > 2 * great[data.ratings <= 2].mean()


def users_of(tmp_path, rows, **keys):
    pl.DataFrame(rows, schema=["uid", "says"], orient="row").write_parquet(tmp_path / "users.parquet")
    asked = UsersConfig(path=str(tmp_path / "users.parquet"), user="uid", text="says")
    return TableConfig(path=str(tmp_path / "e.csv"), items_path=str(tmp_path / "i.csv"), users=asked, k_core=0, **keys)


def test_texts_of_users_know_no_later_title(tmp_path):
    (tmp_path / "e.csv").write_text("user,item,timestamp\nu,a,1\nu,b,2\nv,a,1\n")
    (tmp_path / "i.csv").write_text("item,title\na,The red teapot\nb,A blue kettle\n")
    config = users_of(tmp_path, [("u", "Someone who has The Red Teapot."), ("w", "unknown")])
    from recbench.data.sources.table_config import ItemColumns

    config.item_columns = ItemColumns(title="title")
    data = prepare(config, tmp_path / "cache")
    u = data.user_ids()["user_id"].to_list().index("u")
    train_end = np.asarray(data.offsets[1:]) - (np.arange(2) == u)
    texts = user_texts(data, config, tmp_path, train_end)
    assert [texts[u], texts[1 - u]] == ["Someone who has The Red Teapot.", ""]
    before = user_text_key(config, tmp_path)
    leaks = users_of(tmp_path, [("u", "Wants a blue kettle.")])
    with pytest.raises(
        UserError, match=r"data.users.text of user 'u' fails the leak check: it holds the title \"a blue kettle\""
    ):
        user_texts(data, leaks, tmp_path, train_end)
    assert user_text_key(leaks, tmp_path) != before
    for rows, message in (
        ([("w", "x")], r"data.users.text knows none of the 2 users"),
        ([("u", " "), ("w", "x")], r"the column 'says' is empty for all 2 users"),
        ([("u", "x"), ("u", "y")], r"the user 'u' stands more than once"),
    ):
        with pytest.raises(UserError, match=message):
            user_texts(data, users_of(tmp_path, rows), tmp_path, train_end)
    with pytest.raises(UserError, match=r"data.users.text names a column"):
        UsersConfig(text="says").validate()
