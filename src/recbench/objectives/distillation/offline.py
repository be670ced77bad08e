"""What a frozen teacher says of every training position, computed once, kept memory-mapped under the teacher's run, shared by its students.

``runs/<teacher key>/taught/<hash>/`` holds one array an answer, ``<name>.npy`` [N, ...], and ``manifest.json``. The hash covers what was read
(``Objective.reading``), of which windows, at which length, stored in which type; which teacher it was is said by the folder around it.

Row n belongs to the n-th target in the order of the windows: position i of window w is row sum(length[:w]) + i, and a batch's real
positions, row by row, are the concatenation of such ranges.

The folder is made beside its place and renamed, under the lock of the teacher's run, so a name means that it is complete. Of one process that
makes it and another that wants it the second waits and reuses.

Shapes: W training windows, N their targets.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbench.core.disk import disk_errors, new_array, remove_leftovers, whole_folder
from recbench.core.errors import UserError
from recbench.core.run_folder import RunFolder, locked
from recbench.data.batches import Batch, WindowDataset, Windows
from recbench.objectives.distillation.base import Objective

logger = logging.getLogger(__name__)

#: Part of every hash. Raise it when a change of code changes what is stored for the same reading.
FORMAT = 1
#: Bytes that the full scores of a teacher without hidden states may take on disk, [N, V] in all. Beyond, it is asked at every step.
FULL_SCORES_LIMIT = 4 * 2**30
#: Targets of a batch that the teacher is asked at once.
READ_TARGETS = 2048
#: Seconds between two lines on how far it has come.
LINE_INTERVAL = 10.0

Read = Callable[[Batch], dict[str, Tensor]]


class StoredLessons:
    """Rows of stored answers for a batch, by the numbers of its windows. Knows no teacher."""

    def __init__(self, arrays: dict[str, np.ndarray], windows: Windows) -> None:
        self.arrays, self.length = arrays, windows.length
        self.first = np.cumsum(windows.length) - windows.length

    @property
    def n_bytes(self) -> int:
        return sum(array.nbytes for array in self.arrays.values())

    def positions(self, batch: Batch) -> np.ndarray:
        """[N] rows of the real positions of a batch."""
        assert batch.windows is not None, "only batches of training windows have stored answers"
        return flat_positions(self.first, self.length, batch.windows.numpy())

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        rows = self.positions(batch)
        found = {name: torch.from_numpy(array[rows]).to(batch.items.device) for name, array in self.arrays.items()}
        return {name: _numbers(value) for name, value in found.items()}

    def to(self, device: torch.device) -> None:
        """The arrays stay on disk; what a batch needs goes where the batch is."""


def _numbers(value: Tensor) -> Tensor:
    """Stored answers as they are used. NumPy knows no bfloat16: its bits stand as int16, which no answer is otherwise."""
    if value.dtype == torch.int16:
        value = value.view(torch.bfloat16)
    return value.float() if value.is_floating_point() else value


def flat_positions(first: np.ndarray, length: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Rows ``first[w] : first[w] + length[w]`` of each of the given windows, one after the other."""
    taken = length[windows]
    before = np.cumsum(taken) - taken
    return np.repeat(first[windows] - before, taken) + np.arange(int(taken.sum()))


def too_large(objective: Objective, windows: Windows, store: str) -> int:
    """Bytes of what would be stored if that is full scores beyond their limit, else 0."""
    columns = objective.reading().get("columns", 0)
    size = windows.n_targets * columns * getattr(torch, store).itemsize
    return size if size > FULL_SCORES_LIMIT else 0


def stored_lessons(
    reading: dict[str, Any],
    ask: Any,
    dataset: WindowDataset,
    max_length: int,
    store: str,
    teacher: RunFolder,
    device: torch.device,
) -> tuple[StoredLessons, float]:
    """The stored answers for these windows, made if they are missing or damaged, and the seconds that making them took.

    ``ask`` gives the teacher's answers for a batch (``OnlineLessons``). Raises UserError for a full disk, or answers that are not finite.
    """
    about = description(reading, dataset, max_length, store)
    folder = (
        teacher.path / "taught" / hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=8).hexdigest()
    )
    arrays = opened(folder)
    seconds = 0.0
    if arrays is None:
        with locked(teacher), disk_errors(folder, "runs_dir"):
            arrays = opened(folder)
            if arrays is None:
                started = time.perf_counter()
                _make(folder, about, ask, dataset, store, device)
                seconds = time.perf_counter() - started
                arrays = opened(folder)
    if arrays is None:
        raise UserError(f"{folder} cannot be read back; check the disk, or use distillation.mode=online")
    found = StoredLessons(arrays, dataset.windows)
    logger.info(
        "the teacher's answers: %.1f MB in %s, %s",
        found.n_bytes / 1e6,
        folder,
        f"made in {seconds:.1f} s" if seconds else "there already",
    )
    return found, seconds


def description(reading: dict[str, Any], dataset: WindowDataset, max_length: int, store: str) -> dict[str, Any]:
    """All that tells one store of a teacher from another, in plain values."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (dataset.windows.user, dataset.windows.start, dataset.windows.length):
        digest.update(np.ascontiguousarray(part, dtype="<i8").tobytes())
    return {
        "format": FORMAT,
        "reading": reading,
        "data": dataset.data.fingerprint,
        "windows": digest.hexdigest(),
        "targets": dataset.windows.n_targets,
        "max_length": max_length,
        "store": store,
    }


def opened(folder: Path) -> dict[str, np.ndarray] | None:
    """The arrays of a store, memory-mapped; None if it is not there, or if a file of it is not what the manifest says."""
    if not folder.is_dir():
        return None
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in manifest["arrays"]
        }
        for name, said in manifest["arrays"].items():
            if [list(arrays[name].shape), str(arrays[name].dtype)] != [said["shape"], said["dtype"]]:
                raise ValueError(f"{name}.npy is not of shape {said['shape']}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.info("the teacher's answers in %s are damaged (%s): they are computed again", folder, error)
        return None
    return arrays


def _make(
    folder: Path, about: dict[str, Any], ask: Any, dataset: WindowDataset, store: str, device: torch.device
) -> None:
    """Ask the teacher and write the folder. Called with the lock of the teacher's run held."""
    folder.parent.mkdir(exist_ok=True)
    remove_leftovers(folder)  # damaged, or left by a process that was killed
    try:
        with whole_folder(folder) as working:
            working.mkdir()
            ask.to(device)
            arrays = _fill(working, ask, dataset, store, device)
            said = {name: {"shape": list(array.shape), "dtype": str(array.dtype)} for name, array in arrays.items()}
            manifest = json.dumps({**about, "arrays": said}, indent=1) + "\n"
            (working / "manifest.json").write_text(manifest, encoding="utf-8")
            for array in arrays.values():
                array.flush()
    finally:
        if device.type != "cpu":
            ask.to(torch.device("cpu"))  # the student wants the device for itself


def _fill(working: Path, ask: Read, dataset: WindowDataset, store: str, device: torch.device) -> dict[str, np.memmap]:
    windows = dataset.windows
    first = np.cumsum(windows.length) - windows.length
    arrays: dict[str, np.memmap] = {}
    done, said_at = 0, time.monotonic()
    logger.info("asking the teacher of %s training events", f"{windows.n_targets:,}")
    for chosen in _batches(windows):
        answers = {name: _plain(name, value, store) for name, value in ask(dataset[chosen].to(device)).items()}
        if not arrays:
            arrays = _allocate(working, answers, windows.n_targets)
        rows = flat_positions(first, windows.length, chosen)
        for name, value in answers.items():
            arrays[name][rows] = value
        done += len(rows)
        if time.monotonic() - said_at >= LINE_INTERVAL:
            logger.info("asking the teacher: %.0f %%", 100 * done / windows.n_targets)
            said_at = time.monotonic()
    return arrays


def _batches(windows: Windows) -> Iterator[np.ndarray]:
    """Window numbers in batches of windows that are alike in length."""
    order = np.argsort(windows.length, kind="stable")
    filled = np.cumsum(windows.length[order]) - 1
    yield from np.split(order, np.flatnonzero(np.diff(filled // READ_TARGETS)) + 1)


def _plain(name: str, value: Tensor, store: str) -> np.ndarray:
    """An answer as it is stored; raises UserError if a number of it is not finite, or not in that type."""
    if store == "bfloat16" and value.is_floating_point():
        if not value.isfinite().all():
            raise UserError(f"the teacher's answers ({name}) hold numbers that are not finite; train it anew")
        return value.cpu().bfloat16().view(torch.int16).numpy()
    array = value.cpu().numpy()
    if array.dtype.kind != "f":
        return array
    with np.errstate(over="ignore"):
        array = array.astype(store)
    if not np.isfinite(array).all():
        way_out = (
            "use distillation.store=bfloat16 or distillation.store=float32"
            if store == "float16" and value.isfinite().all()
            else "train it anew"
        )
        raise UserError(f"the teacher's answers ({name}) hold numbers that are not finite as {store}; {way_out}")
    return array


def _allocate(working: Path, answers: dict[str, np.ndarray], n_rows: int) -> dict[str, np.memmap]:
    """Arrays on disk with their space reserved: to write into a map that the disk cannot hold would kill the process."""
    wanted = sum(n_rows * value[:1].nbytes for value in answers.values())
    free = shutil.disk_usage(working).free
    if wanted > free:
        raise UserError(
            f"the disk is full: the teacher's answers take {wanted / 1e9:.1f} GB under {working.parent} and {free / 1e9:.1f} GB are free; "
            "free some space, or use distillation.mode=online or distillation.store=float16"
        )
    arrays = {}
    for name, value in answers.items():
        arrays[name] = new_array(working / f"{name}.npy", value.dtype, (n_rows, *value.shape[1:]))
    return arrays
