"""What can go, and above all what must stay."""

from __future__ import annotations

import json

import numpy as np
import pytest
from filelock import FileLock

from recbench.cli.stored.inventory import Inventory
from recbench.cli.stored.leftovers import DATA, DEPENDENCIES, KINDS, UNFINISHED, find_leftovers
from recbench.cli.stored.removal import GOING
from recbench.data.prepared import PreparedData


@pytest.fixture
def left(folders, tmp_path):
    """left(kind, ...) -> names of what can go."""

    def names(*kinds):
        return [one.path.name for one in find_leftovers(Inventory.of(folders.path), tmp_path / "cache", kinds or KINDS)]

    return names


def made_for(path, key):
    (path / "made_for.json").write_text(json.dumps({"key": key}))


def test_a_run_made_for_others_goes_when_the_last_of_them_is_gone(folders, left):
    made_for(folders.add("sasrec-table"), "slmrec-a")
    made_for(folders.add("slmrec-teacher", dependencies={"item_table": "sasrec-table"}), "slmrec-a")
    folders.add("slmrec-b", dependencies={"teacher": "slmrec-teacher"})
    folders.add("sasrec-asked-for")
    assert left(DEPENDENCIES) == []
    folders.broken("slmrec-c", "failed")
    (folders.path / "slmrec-b" / "metrics.json").unlink()
    (folders.path / "slmrec-b" / "status.json").unlink()
    (folders.path / "slmrec-b" / "config.yaml").unlink()
    assert left(DEPENDENCIES) == ["slmrec-teacher", "sasrec-table"]


def test_an_unfinished_run_keeps_what_it_needs_unless_it_goes_too(folders, left):
    made_for(folders.add("sasrec-table"), "slmrec-a")
    student = folders.broken("slmrec-a", "interrupted", "stopped from the keyboard")
    (student / "provenance.json").write_text(json.dumps({"dependencies": {"item_table": "sasrec-table"}}))
    (student / "resume.ckpt").write_bytes(b"x")
    assert left(DEPENDENCIES) == []
    assert left(UNFINISHED) == ["slmrec-a"]
    assert left(UNFINISHED, DEPENDENCIES) == ["slmrec-a", "sasrec-table"]
    (found,) = find_leftovers(Inventory.of(folders.path), folders.path, [UNFINISHED])
    assert "interrupted: stopped from the keyboard; goes on after epoch 0" in found.reason


def test_what_is_being_made_for_a_run_that_has_no_folder_yet_stays(folders, left):
    made_for(folders.add("sasrec-table"), "slmrec-a")
    made_for(folders.broken("slmrec-teacher", "running"), "slmrec-a")
    (folders.path / ".locks").mkdir()
    with FileLock(folders.path / ".locks" / "slmrec-teacher.lock"):
        assert left(UNFINISHED, DEPENDENCIES) == []
    assert left(UNFINISHED, DEPENDENCIES) == ["slmrec-teacher", "sasrec-table"]


def test_a_run_that_was_just_made_for_another_stays(folders, left, monkeypatch):
    made_for(folders.add("sasrec-table"), "slmrec-a")
    monkeypatch.setattr("time.time", lambda: 1.7e9 + 600)  # ten minutes after it was made
    assert left(DEPENDENCIES) == []
    monkeypatch.setattr("time.time", lambda: 1.7e9 + 7200)
    assert left(DEPENDENCIES) == ["sasrec-table"]


def test_half_removed_folders_are_found(folders, left):
    folders.add("sasrec-a")
    (folders.path / f"{GOING}sasrec-b-17").mkdir()
    assert left(UNFINISHED) == [f"{GOING}sasrec-b-17"]


def prepared(cache, name, n, **extra):
    items = np.arange(1, n + 1)
    details = {"extra": extra} if extra else None
    return PreparedData.from_arrays(cache / "prepared" / name, items, np.array([0, n]), details=details)


def test_data_that_a_run_was_made_on_stay(folders, left, tmp_path):
    cache = tmp_path / "cache"
    used = prepared(cache, "synthetic-used", 5)
    prepared(cache, "synthetic-other", 6)
    base = prepared(cache, "amazon-base", 7)
    view = prepared(cache, "amazon-base-sessions-x", 8, session_split={"of": base.fingerprint})
    folders.add("sasrec-a", data=used.fingerprint)
    folders.add("sasrec-b", data=view.fingerprint)
    assert left(DATA) == ["synthetic-other"]


def test_data_of_a_run_that_goes_go_with_it(folders, left, tmp_path):
    used = prepared(tmp_path / "cache", "synthetic-used", 5)
    folders.add("sasrec-a", data="0" * 32)
    failed = folders.broken("sasrec-b", "failed")
    (failed / "provenance.json").write_text(json.dumps({"data_fingerprint": used.fingerprint}))
    assert left(DATA) == []
    assert left(UNFINISHED, DATA) == ["sasrec-b", "synthetic-used"]


def test_a_run_that_does_not_say_what_it_was_made_on_keeps_all_data_of_that_name(folders, left, tmp_path):
    prepared(tmp_path / "cache", "synthetic-x", 5)
    prepared(tmp_path / "cache", "movielens-x", 5)
    (folders.add("sasrec-a") / "provenance.json").unlink()
    assert left(DATA) == ["movielens-x"]


def test_data_that_are_being_prepared_stay(folders, left, tmp_path):
    cache = tmp_path / "cache" / "prepared"
    (cache / ".table-events-1.17").mkdir(parents=True)
    folders.add("sasrec-a")
    with FileLock(cache / "table-events-1.lock"):
        assert left(DATA) == []
    assert left(DATA) == [".table-events-1.17"]
