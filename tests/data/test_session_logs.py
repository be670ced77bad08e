"""The raw session logs: small logs of our own with every oddity, and heads of the real ones where they are at hand."""

import gzip
import shutil

import pytest

from recbench.core.errors import UserError
from recbench.data.protocol import LeaveOneOutConfig, SessionsConfig
from recbench.data.sources.diginetica import DigineticaConfig
from recbench.data.sources.retailrocket import RetailrocketConfig
from recbench.data.sources.yoochoose import YoochooseConfig
from recbench.data.split import protocol_view
from recbench.data.store import prepare

DIGINETICA = """sessionId;userId;itemId;timeframe;eventdate
1;NA;b;2000;2016-05-09
1;NA;a;1000;2016-05-09
1;7;c;90000000;2016-05-09
2;NA;a;5;2016-05-10
"""
YOOCHOOSE = """11,2014-04-07T10:54:09.868Z,b,0
11,2014-04-07T10:51:09.277Z,a,S
12,2014-04-07T10:51:09.277Z,a,0
"""
RETAILROCKET = """timestamp,visitorid,event,itemid,transactionid
1433221332117,5,view,a,
1433221333117,5,addtocart,a,
1433223133117,5,transaction,a,99
1433224933118,5,view,b,
1433221332117,6,view,c,
"""
LOGS = {
    "diginetica": (DigineticaConfig, "train-item-views.csv", DIGINETICA),
    "yoochoose": (YoochooseConfig, "yoochoose-clicks.dat", YOOCHOOSE),
    "retailrocket": (RetailrocketConfig, "events.csv", RETAILROCKET),
}
each_log = pytest.mark.parametrize("name", LOGS)


def prepared(folder, name, text=None, **settings):
    config, file, own = LOGS[name]
    (folder / file).write_text(own if text is None else text)
    return prepare(config(raw_dir=str(folder), **settings), folder / "cache")


def events_of(data, user):
    """(raw item, seconds) of a user's events."""
    items, u = data.item_table()["item"], data.user_ids()["user_id"].to_list().index(user)
    where = slice(int(data.offsets[u]), int(data.offsets[u + 1]))
    return [(items[int(i) - 1], int(t)) for i, t in zip(data.items[where], data.timestamps[where], strict=True)]


def test_diginetica_is_ordered_by_timeframe_and_stays_on_its_date(tmp_path):
    data = prepared(tmp_path, "diginetica")
    midnight = 1_462_752_000  # 2016-05-09 UTC
    # The last timeframe is longer than a day.
    assert events_of(data, "1") == [("a", midnight + 1), ("b", midnight + 2), ("c", midnight + 86_399)]
    assert data.manifest["first_date"] == "2016-05-09"
    assert data.manifest["extra"]["sessions"]["test_days"] == 7


def test_diginetica_columns_may_be_written_with_underscores(tmp_path):
    text = DIGINETICA.replace("sessionId;userId;itemId", "session_id;user_id;item_id")
    assert prepared(tmp_path, "diginetica", text).n_interactions == 4


def test_yoochoose_is_read_without_a_header(tmp_path):
    data = prepared(tmp_path, "yoochoose", fraction="1/4")
    assert [item for item, _ in events_of(data, "11")] == ["a", "b"]
    assert data.n_users == 2
    assert data.manifest["first_date"] == "2014-04-07"
    assert data.manifest["extra"]["sessions"]["train_fraction"] == "1/4"


def test_retailrocket_visitors_are_cut_at_half_an_hour_and_keep_their_behaviours(tmp_path):
    data = prepared(tmp_path, "retailrocket")
    u = data.user_ids()["user_id"].to_list().index("5")
    where = slice(int(data.offsets[u]), int(data.offsets[u + 1]))
    # A pause of 30 minutes exactly, and one of a millisecond more.
    assert data.sessions[where].tolist() == [0, 0, 0, 1]
    names = data.manifest["behaviours"]
    assert [names[int(b) - 1] for b in data.behaviours[where]] == ["view", "addtocart", "transaction", "view"]


@each_log
def test_a_missing_file_is_named_with_its_place_and_origin(tmp_path, name):
    config, file, _ = LOGS[name]
    with pytest.raises(UserError) as error:
        prepare(config(), tmp_path / "cache")
    message = str(error.value)
    assert "\n" not in message
    assert all(
        word in message for word in (file, str(tmp_path / "cache" / "raw" / name), "data.raw_dir", "get it from")
    )
    with pytest.raises(UserError, match=r"data\.raw_dir=.*is not a folder"):
        prepare(config(raw_dir=str(tmp_path / "none")), tmp_path / "cache")


@each_log
def test_a_file_in_the_cache_is_found_and_gzip_reads_alike(tmp_path, name):
    config, file, text = LOGS[name]
    plain = prepared(tmp_path, name)
    (tmp_path / "cache" / "raw" / name).mkdir(parents=True)
    (tmp_path / "cache" / "raw" / name / f"{file}.gz").write_bytes(gzip.compress(text.encode()))
    assert prepare(config(), tmp_path / "cache").fingerprint == plain.fingerprint


@each_log
def test_a_gzip_cut_short_is_refused(tmp_path, name):
    config, file, text = LOGS[name]
    whole = gzip.compress((text * 500).encode())
    (tmp_path / f"{file}.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="is cut short"):
        prepare(config(raw_dir=str(tmp_path)), tmp_path / "cache")


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("diginetica", "sessionId;", "visit;", "has no column sessionId; it has: visit, userId"),
        ("retailrocket", "visitorid", "visitor", "has no column visitorid; it has: timestamp, visitor,"),
        ("yoochoose", YOOCHOOSE, "a b\n", "1 of the columns session, time, item, category"),
    ],
)
def test_a_log_without_its_session_column_is_refused(tmp_path, name, old, new, message):
    with pytest.raises(UserError, match=message):
        prepared(tmp_path, name, LOGS[name][2].replace(old, new, 1))


def test_bad_rows_are_named_or_counted(tmp_path):
    text = DIGINETICA + "3;NA;a;5;soon\n3;NA;;5;2016-05-10\n"
    with pytest.raises(UserError, match="line 6: no timestamp"):
        prepared(tmp_path, "diginetica", text)
    counts = prepared(tmp_path, "diginetica", text, bad_rows="skip").manifest["counts"]
    assert counts == {"rows_read": 6, "rows_rejected_no_timestamp": 1, "rows_rejected_no_item": 1}


def test_an_unknown_fraction_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"data\.fraction=1/8 is not known; choose one of: 1, 1/4, 1/64"):
        prepared(tmp_path, "yoochoose", fraction="1/8")


def test_a_fraction_means_nothing_to_other_protocols(tmp_path):
    with pytest.raises(UserError, match=r"data.fraction=1/64 .* protocol=leave_one_out does not know"):
        protocol_view(prepared(tmp_path, "yoochoose"), LeaveOneOutConfig())
    whole = prepared(tmp_path, "yoochoose", fraction="1")
    assert protocol_view(whole, LeaveOneOutConfig()) is whole


@pytest.mark.parametrize(
    ("name", "sample", "file"),
    [
        ("diginetica", "diginetica_sample_train-item-views.csv.gz", "train-item-views.csv.gz"),
        ("yoochoose", "yoochoose_sample.dat.gz", "yoochoose-clicks.dat.gz"),
        ("retailrocket", "recpack_retailrocket-sample.csv", "events.csv"),
    ],
)
def test_heads_of_the_real_logs(shared_data, tmp_path, name, sample, file):
    path = shared_data / "sessions" / "raw_samples" / sample
    if not path.is_file():
        pytest.skip(f"../shared/data/sessions/raw_samples/{sample} is not here")
    shutil.copyfile(path, tmp_path / file)
    data = prepare(LOGS[name][0](raw_dir=str(tmp_path)), tmp_path / "cache")
    content = path.read_bytes()
    lines = (gzip.decompress(content) if path.suffix == ".gz" else content).decode().splitlines()
    header = 0 if name == "yoochoose" else 1
    assert data.manifest["counts"]["rows_read"] == len(lines) - header
    assert data.has_timestamps
    assert 2013 <= int(data.manifest["first_date"][:4]) <= 2016
    if name == "diginetica":
        # Nothing is tested of a log that lacks its last weeks; but its sessions are cut, and all go to one side each.
        split = protocol_view(data, SessionsConfig(test_days=0, min_item_count=0))
        assert set(split.item_table()["item"]) <= {line.split(";")[2] for line in lines}
