"""Cutting users into sessions: by pauses while data are cleaned, and the ranges that come of it."""

import numpy as np
import pytest

from recbench.core.errors import UserError
from recbench.data.protocol import SessionsConfig
from recbench.data.session_cut import gap_sessions, session_ranges
from recbench.data.sources.table_config import Columns, TableConfig
from recbench.data.split import protocol_view
from recbench.data.store import prepare

# Seconds of user u: pauses 30, 31; of user v: a single event a second after u's last.
EVENTS = "user,item,timestamp\nu,a,0.000\nu,b,30.000\nu,c,61.000\nv,a,62.000\n"


def prepared(tmp_path, text=EVENTS, **settings):
    (tmp_path / "events.csv").write_text(text)
    config = TableConfig(path=str(tmp_path / "events.csv"), k_core=0, timestamp_unit="s", **settings)
    return prepare(config, tmp_path / "cache")


def sessions_of(data, user):
    u = data.user_ids()["user_id"].to_list().index(user)
    return data.sessions[data.offsets[u] : data.offsets[u + 1]].tolist()


def test_a_pause_must_be_longer_than_the_gap(tmp_path):
    data = prepared(tmp_path, session_gap=30)
    assert sessions_of(data, "u") == [0, 0, 1]
    assert sessions_of(data, "v") == [0]


def test_pauses_are_measured_before_seconds_are_rounded(tmp_path):
    # 30.9 s and 30.0 s: whole seconds alone would call both 30.
    text = "user,item,timestamp\nu,a,0\nu,b,30.9\nu,c,60.9\n"
    assert sessions_of(prepared(tmp_path, text, session_gap=30), "u") == [0, 1, 1]


def test_a_gap_replaces_the_sessions_of_the_source(tmp_path):
    text = "user,item,timestamp,visit\nu,a,0,x\nu,b,10,y\nu,c,100,y\n"
    columns = {"columns": Columns(session="visit")}
    assert sessions_of(prepared(tmp_path, text, **columns), "u") == [0, 1, 1]
    assert sessions_of(prepared(tmp_path, text, session_gap=30, **columns), "u") == [0, 0, 1]


@pytest.mark.parametrize(
    ("columns", "gap", "names"),
    [
        (Columns(user=None, session="visit"), None, {"x", "y", "z"}),  # sessions for users
        (Columns(session="visit"), None, {"u#0", "u#1", "v#0"}),
        (Columns(), 30, {"u#0", "u#1", "v#0"}),
    ],
)
def test_any_table_can_be_cut_into_sessions(tmp_path, columns, gap, names):
    rows = [f"u,{i},{10 * n},x" for n, i in enumerate("abab")] + [f"u,{i},{100 + n},y" for n, i in enumerate("ba")]
    rows += [f"v,{i},{200 + n},z" for n, i in enumerate("aba")]
    text = "user,item,timestamp,visit\n" + "\n".join(rows) + "\n"
    data = prepared(tmp_path, text, columns=columns, session_gap=gap)
    view = protocol_view(data, SessionsConfig(test_quantile=0.67))
    assert set(view.user_ids()["user_id"]) == names
    with pytest.raises(UserError, match="needs sessions and these data have none"):
        protocol_view(prepared(tmp_path, text), SessionsConfig())


def test_without_a_clock_there_is_no_pause(tmp_path):
    columns = Columns(timestamp=None)
    with pytest.raises(UserError, match=r"data\.session_gap=30 needs timestamps"):
        prepared(tmp_path, session_gap=30, columns=columns)


def test_ranges_cover_every_event_once():
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 6, 40)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    user = np.repeat(np.arange(40), lengths)
    time = np.concatenate([np.sort(rng.integers(0, 100, n)) for n in lengths])
    running = gap_sessions(user, time, 20)
    owner, start, end = session_ranges(offsets, running)
    assert (start[1:] == end[:-1]).all()
    assert (start[0], end[-1]) == (0, len(user))
    for u, s, e in zip(owner, start, end, strict=True):
        assert set(user[s:e]) == {u}
        assert (np.diff(time[s:e]) <= 20).all()
    again = np.flatnonzero(owner[1:] == owner[:-1])
    assert (time[start[again + 1]] - time[end[again] - 1] > 20).all()
    assert len(session_ranges(offsets, None)[0]) == (lengths > 0).sum()
