"""Stored answers: which row belongs to which position, when a store is found again, and what becomes of a damaged one."""

from __future__ import annotations

import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from recbench.core.errors import UserError
from recbench.core.run_folder import open_folder
from recbench.data.batches import WindowDataset, training_windows
from recbench.data.epoch_sampler import EpochSampler
from recbench.objectives.distillation import offline
from recbench.objectives.distillation.base import Objective
from recbench.objectives.distillation.offline import StoredLessons, flat_positions, stored_lessons
from recbench.objectives.distillation.teacher import OnlineLessons, Teaching

CPU = torch.device("cpu")


class Telling:
    """Stands for a teacher: its answer to a position is the target there, and it counts how often it is asked."""

    def __init__(self, spoil=None):
        self.asked, self.spoil = 0, spoil

    def __call__(self, batch):
        self.asked += 1
        target = batch.targets[batch.mask].float()
        if self.spoil is not None:
            target[target == 1] = self.spoil
        return {"target": torch.stack([target, -target], dim=1), "item": batch.items[batch.mask].to(torch.int32)}

    def to(self, device):
        pass


@pytest.fixture
def folder(tmp_path):
    return open_folder(tmp_path / "runs", "teacher-1")


@pytest.fixture
def get(folder, dataset):
    """get(teacher, ...) -> StoredLessons, with the defaults of a test."""

    def stored(teacher, reading=None, store="float32", of=dataset, max_length=20):
        return stored_lessons(reading or {"kind": "test"}, teacher, of, max_length, store, folder, CPU)[0]

    return stored


def stores(folder):
    return sorted((folder.path / "taught").iterdir())


def test_rows_of_windows_follow_each_other():
    first, length = np.array([0, 3, 5, 5]), np.array([3, 2, 0, 4])
    assert flat_positions(first, length, np.array([3, 0])).tolist() == [5, 6, 7, 8, 0, 1, 2]
    assert flat_positions(first, length, np.array([2])).tolist() == []


@pytest.mark.parametrize("at_once", [1, 50, 10**6])
def test_every_position_gets_its_own_answer_whatever_the_batches(get, dataset, monkeypatch, at_once):
    monkeypatch.setattr(offline, "READ_TARGETS", at_once)
    stored = get(Telling())
    for windows in EpochSampler(dataset.windows, 300, seed=9).plan(2):
        batch = dataset[windows]
        found = stored(batch)
        assert torch.equal(found["target"][:, 0], batch.targets[batch.mask].float())
        assert torch.equal(found["target"][:, 1], -batch.targets[batch.mask].float())
        assert torch.equal(found["item"], batch.items[batch.mask].to(torch.int32))


def test_windows_of_a_long_history_are_told_apart(tiny_data, tiny_split, get):
    cut = WindowDataset(tiny_data, training_windows(tiny_split.train_start, tiny_split.train_end, 4))
    assert len(cut) > len(np.unique(cut.windows.user))
    stored = get(Telling(), of=cut, max_length=4)
    batch = cut[np.arange(len(cut))[::-1]]
    assert torch.equal(stored(batch)["target"][:, 0], batch.targets[batch.mask].float())


def test_the_teacher_is_asked_of_each_window_once_and_never_again(get, folder, dataset):
    first, second = Telling(), Telling()
    made, found = get(first), get(second)
    assert first.asked > 0
    assert second.asked == 0
    assert len(stores(folder)) == 1
    assert found.n_bytes == made.n_bytes == dataset.windows.n_targets * (2 * 4 + 4)
    said = json.loads((stores(folder)[0] / "manifest.json").read_text())
    assert said["reading"] == {"kind": "test"}
    assert said["targets"] == dataset.windows.n_targets
    assert said["arrays"]["target"] == {"shape": [dataset.windows.n_targets, 2], "dtype": "float32"}
    assert isinstance(found.arrays["target"], np.memmap)


def test_another_reading_length_type_or_window_is_another_store(get, folder, dataset, tiny_data, tiny_split):
    shorter = training_windows(tiny_split.train_start, tiny_split.train_end - 1, 20)
    for keys in (
        {},
        {"reading": {"kind": "test", "normed": True}},
        {"store": "float16"},
        {"max_length": 21},
        {"of": WindowDataset(tiny_data, shorter)},
    ):
        teacher = Telling()
        get(teacher, **keys)
        assert teacher.asked > 0
    assert len(stores(folder)) == 5


def test_half_the_digits_take_half_the_disk(get, dataset, batch):
    whole, half = get(Telling()), get(Telling(), store="float16")
    assert half.arrays["target"].nbytes * 2 == whole.arrays["target"].nbytes
    assert half(batch)["target"].dtype == torch.float32
    torch.testing.assert_close(half(batch)["target"], whole(batch)["target"], rtol=1e-3, atol=0)
    assert half.arrays["item"].dtype == np.int32


def cut_short(store):
    with (store / "target.npy").open("r+b") as file:
        file.truncate(file.seek(0, 2) - 40)


def lose(store):
    (store / "item.npy").unlink()


def reshape(store):
    np.save(store / "target.npy", np.zeros((3, 2), dtype=np.float32))


def forget(store):
    (store / "manifest.json").write_text('{"format": 1}')


def half_a_manifest(store):
    (store / "manifest.json").write_text('{"format')


@pytest.mark.parametrize("damage", [cut_short, lose, reshape, forget, half_a_manifest])
def test_a_damaged_store_is_made_anew(get, folder, batch, damage, caplog):
    expected = get(Telling())(batch)
    expected = {name: value.clone() for name, value in expected.items()}
    damage(stores(folder)[0])
    teacher = Telling()
    with caplog.at_level(logging.INFO, logger="recbench"):
        found = get(teacher)(batch)
    assert teacher.asked > 0
    assert "damaged" in caplog.text
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_what_a_killed_process_left_behind_is_removed(get, folder):
    get(Telling())
    (name,) = (store.name for store in stores(folder))
    leftover = folder.path / "taught" / f".{name}.999"
    leftover.mkdir()
    (folder.path / "taught" / name / "manifest.json").unlink()
    get(Telling())
    assert [store.name for store in stores(folder)] == [name]


def test_a_teacher_that_breaks_off_leaves_no_store(get, folder, monkeypatch):
    monkeypatch.setattr(offline, "READ_TARGETS", 100)

    class BreaksOff(Telling):
        def __call__(self, batch):
            if self.asked == 3:
                raise RuntimeError("away")
            return super().__call__(batch)

    with pytest.raises(RuntimeError, match="away"):
        get(BreaksOff())
    assert stores(folder) == []


@pytest.mark.parametrize(
    ("spoil", "store", "way_out"),
    [
        (1e6, "float16", "distillation.store=float32"),
        (float("nan"), "float32", "train it anew"),
        (float("inf"), "float16", "anew"),
    ],
)
def test_answers_that_are_not_finite_are_refused(get, folder, spoil, store, way_out):
    with pytest.raises(
        UserError, match=rf"answers \(target\) hold numbers that are not finite as {store}; .*{way_out}"
    ):
        get(Telling(spoil), store=store)
    assert stores(folder) == []


def test_a_disk_without_room_is_told_before_anything_is_written(get, folder, monkeypatch):
    monkeypatch.setattr(offline.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(
        UserError, match=r"disk is full: .* GB .*distillation\.mode=online or distillation\.store=float16"
    ):
        get(Telling())
    assert stores(folder) == []


def test_a_disk_that_fills_up_meanwhile_is_told(get, folder, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", refuse)
    with pytest.raises(UserError, match=r"the disk is full under .*runs_dir"):
        get(Telling())
    assert stores(folder) == []


def test_of_two_that_want_the_same_one_asks_and_the_other_waits(get):
    go_on, teachers = threading.Event(), [Telling(), Telling()]

    class Slow(Telling):
        def __call__(self, batch):
            assert go_on.wait(30)
            return super().__call__(batch)

    teachers = [Slow(), Slow()]
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(get, teacher) for teacher in teachers]
        go_on.set()
        found = [future.result(30) for future in futures]
    assert sorted(teacher.asked > 0 for teacher in teachers) == [False, True]
    assert found[0].n_bytes == found[1].n_bytes


class Scores(Objective):
    """Reads full scores of a large catalogue."""

    def reading(self):
        return {"kind": "scores", "columns": 61}


def test_full_scores_beyond_their_limit_are_asked_for_at_every_step(
    build_teacher, dataset, folder, monkeypatch, caplog
):
    monkeypatch.setattr(offline, "FULL_SCORES_LIMIT", dataset.windows.n_targets * 61 * 4 - 1)
    teaching = Teaching(Scores(), build_teacher("markov"), folder)
    with caplog.at_level(logging.INFO, logger="recbench"):
        lessons = teaching.lessons(dataset, 20, CPU)
    assert isinstance(lessons, OnlineLessons)
    assert "asked at every step instead" in caplog.text
    assert not (folder.path / "taught").exists()
    teaching.store = "float16"
    monkeypatch.setattr(Scores, "read", lambda self, teacher, batch: {"scores": batch.targets[batch.mask].float()})
    assert isinstance(teaching.lessons(dataset, 20, CPU), StoredLessons)
    assert teaching.figures["cost/taught_bytes"] == dataset.windows.n_targets * 2


def test_whoever_needs_no_teacher_or_wants_it_online_stores_nothing(build_teacher, dataset, folder):
    assert Teaching(Objective()).lessons(dataset, 20, CPU) is None
    teacher = build_teacher("sasrec").train().requires_grad_(True)
    lessons = Teaching(Objective(), teacher, folder, mode="online").lessons(dataset, 20, CPU)
    assert isinstance(lessons, OnlineLessons)
    assert not teacher.training
    assert not any(p.requires_grad for p in teacher.parameters())
    assert not (folder.path / "taught").exists()
