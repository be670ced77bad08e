"""Training, validation and test that others made: reading them, what is wrong between them, and the protocol ``given``."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recbench.core.errors import UserError
from recbench.data import parts as parts_on_disk
from recbench.data.given_parts import PARTS, given_parts, part_borders
from recbench.data.prepared import PreparedData
from recbench.data.protocol import GivenConfig, LeaveOneOutConfig
from recbench.data.sources.table_config import Columns, GivenParts, TableConfig
from recbench.data.split import make_split, protocol_view
from recbench.data.store import prepare

HEAD = "user,item,timestamp\n"
T = 1_600_000_000


def rows(*events: tuple[str, str, int]) -> str:
    return HEAD + "".join(f"{u},{i},{T + t}\n" for u, i, t in events)


TRAIN = rows(("u", "b", 2), ("u", "a", 1), ("v", "a", 1), ("v", "c", 3), ("u", "c", 3))
VALIDATION = rows(("u", "d", 4), ("v", "b", 4))
TEST = rows(("u", "f", 6), ("u", "e", 5), ("v", "d", 9), ("w", "a", 9))


def prepared(folder: Path, ending: str = ".csv", k_core: int = 5, **given: str) -> PreparedData:
    """given: content of each part, and settings."""
    files = {}
    for name in (*PARTS,):
        if name in given:
            files[name] = str(folder / f"{name}{ending}")
            (folder / f"{name}{ending}").write_text(given.pop(name))
    form = given.pop("form", "auto")
    return prepare(TableConfig(parts=GivenParts(**files, form=form), k_core=k_core, **given), folder / "cache")  # type: ignore[arg-type]


def named(data: PreparedData, positions: np.ndarray) -> list[str]:
    items = ["", *data.item_table()["item"]]
    return [items[int(i)] for i in data.items[positions]]


def events_of(data: PreparedData, user: str) -> tuple[list[str], list[int]]:
    u = data.user_ids()["user_id"].to_list().index(user)
    span = np.arange(data.offsets[u], data.offsets[u + 1])
    return named(data, span), given_parts(data)[span].tolist()


def test_parts_are_kept_and_each_is_in_order_of_time(tmp_path):
    data = prepared(tmp_path, train=TRAIN, validation=VALIDATION, test=TEST)
    assert events_of(data, "u") == (list("abcdef"), [0, 0, 0, 1, 2, 2])
    assert events_of(data, "w") == (["a"], [2])
    assert data.has_timestamps
    assert {name: data.manifest["counts"][f"rows_{name}"] for name in PARTS} == {"train": 5, "validation": 2, "test": 4}
    u = data.user_ids()["user_id"].to_list().index("u")
    assert (part_borders(data)[u] - data.offsets[u]).tolist() == [0, 3, 4, 6]


def test_many_rows_give_the_same(tmp_path, monkeypatch):
    whole = prepared(tmp_path, train=TRAIN, validation=VALIDATION, test=TEST)
    monkeypatch.setattr(parts_on_disk, "PART_ROWS", 4)
    (tmp_path / "again").mkdir()
    assert prepared(tmp_path / "again", train=TRAIN, validation=VALIDATION, test=TEST).fingerprint == whole.fingerprint


def asked(data: PreparedData, cases: object) -> dict[str, list[tuple[list[str], list[str]]]]:
    """user -> (history, targets) of each case."""
    users, found = data.user_ids()["user_id"], {}
    for case in range(len(cases)):  # type: ignore[arg-type]
        one = cases.select(np.array([case]))  # type: ignore[attr-defined]
        history = named(data, np.arange(one.start[0], one.end[0]))
        found.setdefault(users[int(one.user[0])], []).append((history, named(data, one.target_positions)))
    return found


@pytest.mark.parametrize(
    ("target", "u"),
    [
        ("all", [(list("abcd"), ["e", "f"])]),
        ("successive", [(list("abcd"), ["e"]), (list("abcde"), ["f"])]),
        ("last", [(list("abcde"), ["f"])]),
    ],
)
def test_the_protocol_asks_what_the_files_say(tmp_path, target, u):
    data = prepared(tmp_path, train=TRAIN, validation=VALIDATION, test=TEST)
    config = GivenConfig(target=target)
    split = make_split(protocol_view(data, config), config, None)
    assert split.protocol_id == f"given-{target}-full-mask-v1"
    found = asked(data, split.test)
    assert found == {"u": u, "v": [(["a", "c", "b"], ["d"])]}
    assert asked(data, split.validation) == {"u": [(list("abc"), ["d"])], "v": [(["a", "c"], ["b"])]}
    assert (split.train_end - split.train_start).sum() == 5
    assert split.audit["test_users_without_history"] == 1
    assert split.audit["events_test"] == 4


def test_without_validation_the_last_training_events_are_it(tmp_path):
    data = prepared(tmp_path, train=TRAIN, test=TEST)
    split = make_split(data, GivenConfig(), None)
    assert split.protocol_id == "given-all-lastval-full-mask-v1"
    assert asked(data, split.validation) == {"u": [(["a", "b"], ["c"])]}
    assert asked(data, split.test)["u"] == [(list("abc"), ["e", "f"])]


def test_lists_of_items_a_user_a_line(tmp_path, caplog):
    caplog.set_level("INFO")
    data = prepared(
        tmp_path, ".txt", train="0 5 6 7\n1 6 8\n2 5\n", validation="0 8\n1 5\n2 6 7\n", test="0 9\n1\n2 9 8\n"
    )
    assert "taking a line of the parts for a user and its items" in caplog.text
    assert "used as they are: data.k_core=5 does not filter" in caplog.text
    assert not data.has_timestamps
    assert events_of(data, "0") == (["5", "6", "7", "8", "9"], [0, 0, 0, 1, 2])
    assert data.n_interactions == 13
    split = make_split(data, GivenConfig(), None)
    assert asked(data, split.test) == {"0": [(["5", "6", "7", "8"], ["9"])], "2": [(["5", "6", "7"], ["9", "8"])]}


def test_lists_of_one_length_are_told_by_the_other_parts(tmp_path):
    data = prepared(tmp_path, ".txt", train="0 5 6 7\n1 6 8\n", test="0 9\n1 5\n")
    assert events_of(data, "1") == (["6", "8", "5"], [0, 0, 2])


@pytest.mark.parametrize("ending", [".csv", ".inter", ".parquet", ".jsonl"])
def test_every_format(tmp_path, ending):
    want = prepared(tmp_path, train=TRAIN, validation=VALIDATION, test=TEST).fingerprint
    files = {}
    for name, text in (("train", TRAIN), ("validation", VALIDATION), ("test", TEST)):
        frame = pl.read_csv(text.encode())
        path = tmp_path / f"{name}{ending}"
        if ending == ".parquet":
            frame.write_parquet(path)
        elif ending == ".jsonl":
            frame.write_ndjson(path)
        elif ending == ".inter":
            frame.rename({"user": "user_id:token", "item": "item_id:token", "timestamp": "timestamp:float"}).write_csv(
                path, separator="\t"
            )
        else:
            frame.write_csv(path)
        files[name] = str(path)
    assert prepare(TableConfig(parts=GivenParts(**files)), tmp_path / "cache").fingerprint == want


def test_ratings_by_number_with_the_form_of_ml_100k(tmp_path):
    data = prepared(
        tmp_path, ".base", train="1\t10\t5\t874965758\n1\t11\t2\t876893171\n2\t10\t4\t889751712\n1\t13\t4\t876893171\n",
        test="1\t12\t3\t878542960\n2\t11\t4\t889751800\n", header=False, columns=Columns("1", "2", "4", "3"), min_rating=3,
    )  # fmt: skip
    assert events_of(data, "1") == (["10", "13", "12"], [0, 0, 2])


def test_what_parts_share_is_told_and_all_of_it_is_refused(tmp_path, caplog):
    data = prepared(tmp_path, train=TRAIN, test=TEST + f"u,c,{T + 3}\nv,a,{T + 8}\n")
    assert "events of the test part that stand in an earlier part too: 1 of 6; first: user u, item c" in caplog.text
    assert data.manifest["extra"]["parts"]["test_pairs_also_earlier"] == 2
    with pytest.raises(UserError, match=r"data.parts.test has nothing that the parts before it lack"):
        prepared(tmp_path, train=TRAIN, test=TRAIN)


def test_parts_that_are_no_cut_in_time_lose_the_clock(tmp_path, caplog):
    data = prepared(tmp_path, train=TRAIN, validation=VALIDATION, test=TEST.replace(f"u,e,{T + 5}", f"u,e,{T}"))
    assert "0 validation and 1 test events are older than an event of their user" in caplog.text
    assert not data.has_timestamps
    assert make_split(data, GivenConfig(), None).audit["test_events_older_than_earlier_parts"] == 1


def test_only_protocols_of_given_parts_take_them(tmp_path):
    data = prepared(tmp_path, train=TRAIN, test=TEST)
    with pytest.raises(UserError, match=r"which protocol=leave_one_out would mix; use protocol=given"):
        protocol_view(data, LeaveOneOutConfig())
    (tmp_path / "e.csv").write_text(TRAIN)
    other = prepare(TableConfig(path=str(tmp_path / "e.csv"), k_core=0), tmp_path / "cache")
    assert other.parts is None
    with pytest.raises(UserError, match=r"protocol=given needs data that others split: .*data.parts.train=FILE"):
        make_split(other, GivenConfig(), None)


SLIPS = {
    "no test": ({"train": "a"}, {}, "data.parts.test is missing"),
    "path too": ({"train": "a", "test": "b"}, {"path": "x.csv"}, "data.path and data.parts contradict"),
    "gap": ({"train": "a", "test": "b"}, {"session_gap": 5}, "data.session_gap would cut across"),
    "form": ({"train": "a", "test": "b", "form": "list"}, {}, "data.parts.form=list is not known"),
    "no file": ({"train": "a.csv", "test": "b.csv"}, {}, "data.parts.train: there is no file"),
}


@pytest.mark.parametrize(("given", "settings", "message"), SLIPS.values(), ids=SLIPS)
def test_slips(tmp_path, monkeypatch, given, settings, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        prepare(TableConfig(parts=GivenParts(**given), **settings), tmp_path / "cache")


def test_bad_rows_of_a_part_name_its_file(tmp_path):
    with pytest.raises(UserError, match=r"test.csv line 3: no item"):
        prepared(tmp_path, train=TRAIN, test=rows(("u", "f", 6)) + "u,,7\n")
    with pytest.raises(UserError, match=r"data.parts.test holds no usable row"):
        prepared(tmp_path, train=TRAIN, test=HEAD)


def test_the_lists_of_lightgcn(shared_data, tmp_path):
    folder = shared_data / "cf" / "sslrec_yelp"
    if not folder.is_dir():
        pytest.skip("../shared/data/cf/sslrec_yelp is not here")
    files = {"train": "train", "validation": "valid", "test": "test"}
    config = TableConfig(parts=GivenParts(**{part: str(folder / f"{name}.txt.gz") for part, name in files.items()}))
    data = prepare(config, tmp_path)
    assert np.bincount(given_parts(data)).tolist() == [182_357, 13_025, 65_128]
    assert (data.n_users, data.n_items) == (42_712, 26_822)
