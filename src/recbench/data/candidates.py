"""Uniform negatives for sampled protocols: drawn once with a seed, kept on disk, the same for every model.

Shapes: C cases, K candidates a case, R rows of one chunk, M draws a row.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recbench.core.disk import is_full, new_array, write_atomically
from recbench.core.errors import UserError
from recbench.data.cases import Cases, flat_ranges
from recbench.data.protocol import VERSION, SampledConfig

if TYPE_CHECKING:
    from recbench.data.store import PreparedData

#: Draws held at once (8 bytes each, a few copies), and cells of the table of seen items (1 byte each).
CHUNK_DRAWS = 1 << 20
CHUNK_CELLS = 1 << 26


def sampled_candidates(
    data: PreparedData,
    cases: Cases,
    config: SampledConfig,
    part: str,
    cache: Path | None,
    ranked: np.ndarray | None = None,
) -> np.ndarray:
    """[C, K] int32: for each case, K distinct items from outside the user's complete sequence, uniform, in random
    order.

    part: ``validation`` or ``test``; each draws its own. cache: folder of the file that holds them, memory-mapped and
    found again by a hash of data and settings; None keeps them in memory. ranked [n_items + 1] bool: draw only among
    these; None: among all. Raises UserError if some user has too few
    unseen items left, or if the folder cannot be written.
    """
    _refuse_small_catalogue(data, cases, config.n_candidates, ranked)
    if cache is None:
        drawn = np.empty((len(cases), config.n_candidates), dtype=np.int32)
        _draw(data, cases, config, part, drawn, ranked)
        return drawn
    settings = f"{VERSION}|{data.fingerprint}|leave_one_out|{config.n_candidates}|{config.seed}|{part}"
    if ranked is not None:
        settings += f"|{hashlib.blake2b(np.packbits(ranked).tobytes(), digest_size=10).hexdigest()}"
    path = cache / f"candidates-{hashlib.blake2b(settings.encode(), digest_size=10).hexdigest()}.npy"
    stored = _open_stored(path, (len(cases), config.n_candidates))
    if stored is None:
        _write(path, data, cases, config, part, ranked)
        stored = _open_stored(path, (len(cases), config.n_candidates))
        if stored is None:
            raise OSError(f"{path} was written but cannot be read back")
    return stored


def _refuse_small_catalogue(data: PreparedData, cases: Cases, n_candidates: int, ranked: np.ndarray | None) -> None:
    unseen = _unseen_items(data, cases, ranked)
    short = int((unseen < n_candidates).sum())
    if short:
        raise UserError(
            f"protocol=sampled_999 wants {n_candidates} negatives a case, but {short} of {len(cases)} users have fewer "
            f"unseen items (catalogue {data.n_items}, fewest unseen {int(unseen.min())}); lower protocol.n_candidates "
            f"or use protocol=leave_one_out"
        )


def _distinct_items(data: PreparedData, cases: Cases) -> np.ndarray:
    """[C] number of distinct items in the complete sequence of each case's user."""
    length = data.offsets[cases.user + 1] - data.offsets[cases.user]
    if not data.has_repeats:
        return length
    row, position = flat_ranges(data.offsets[cases.user], data.offsets[cases.user + 1])
    pairs = np.unique(row * (data.n_items + 1) + data.items[position])
    return np.bincount(pairs // (data.n_items + 1), minlength=len(cases))


def _unseen_items(data: PreparedData, cases: Cases, ranked: np.ndarray | None) -> np.ndarray:
    """[C] number of items that may be drawn for each case."""
    if ranked is None:
        return data.n_items - _distinct_items(data, cases)
    row, position = flat_ranges(data.offsets[cases.user], data.offsets[cases.user + 1])
    pairs = np.unique(row * (data.n_items + 1) + data.items[position])
    pairs = pairs[ranked[pairs % (data.n_items + 1)]]
    return int(ranked[1:].sum()) - np.bincount(pairs // (data.n_items + 1), minlength=len(cases))


def _open_stored(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """The stored file memory-mapped, or None if it is absent or not what it should be (then it is drawn again)."""
    if not path.exists():
        return None
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError):
        return None
    return stored if stored.shape == shape and stored.dtype == np.int32 else None


def _write(
    path: Path, data: PreparedData, cases: Cases, config: SampledConfig, part: str, ranked: np.ndarray | None
) -> None:
    """Draw beside ``path`` and rename. Two processes that do so write the same bytes."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(path) as temporary:
            shape = (len(cases), config.n_candidates)
            drawn = new_array(temporary, np.int32, shape)
            _draw(data, cases, config, part, drawn, ranked)
            drawn.flush()
    except OSError as error:
        full = "the disk is full: " if is_full(error) else ""
        raise UserError(
            f"{full}cannot write the candidate file into {path.parent}: {error.strerror}; set cache_dir elsewhere"
        ) from error


def _draw(
    data: PreparedData, cases: Cases, config: SampledConfig, part: str, out: np.ndarray, ranked: np.ndarray | None
) -> None:
    """Fill ``out`` [C, K] chunk by chunk; what is drawn depends on data, settings and part alone."""
    generator = np.random.default_rng((config.seed, 1 if part == "test" else 0))
    draws = _draws_per_row(data.n_items, config.n_candidates, int(_unseen_items(data, cases, ranked).min()))
    rows = max(1, min(CHUNK_DRAWS // draws, CHUNK_CELLS // (data.n_items + 1)))
    seen = np.zeros((min(rows, len(cases)), data.n_items + 1), dtype=bool)
    never = np.zeros(data.n_items + 1, dtype=bool) if ranked is None else ~ranked
    seen[:] = never
    for first in range(0, len(cases), rows):
        user = cases.user[first : first + rows]
        row, position = flat_ranges(data.offsets[user], data.offsets[user + 1])
        item = data.items[position]
        seen[row, item] = True
        out[first : first + rows] = _draw_unseen(generator, seen[: len(user)], config.n_candidates, draws)
        seen[row, item] = never[item]  # cheaper than clearing the table


def _draws_per_row(n_items: int, n_candidates: int, fewest_unseen: int) -> int:
    """Draws with replacement that nearly always hold n_candidates distinct unseen items, even for the user with fewest
    of them.

    Collecting K distinct of A wanted among N takes about N ln(A / (A - K)) draws; on top of that, slack for chance.
    """
    expected = n_items * np.log((fewest_unseen + 0.5) / (fewest_unseen - n_candidates + 0.5))
    return int(expected + 5 * np.sqrt(expected) + 16)


def _draw_unseen(generator: np.random.Generator, seen: np.ndarray, n_candidates: int, draws: int) -> np.ndarray:
    """[R, K] distinct unseen items of each row: the first K of a sequence of uniform draws, less repeats and seen
    items.

    seen [R, n_items + 1] bool. A row that comes out short is drawn anew as a whole; whether it does is blind to which
    unseen items were drawn, so the result stays uniform.
    """
    n_rows, width = seen.shape
    chosen = np.empty((n_rows, n_candidates), dtype=np.int32)
    todo = np.arange(n_rows)
    while len(todo):
        # Item and draw number in one integer: a sort by it brings equal items together, earliest draw first.
        bits = draws.bit_length()
        keys = generator.integers(1, width, size=(len(todo), draws)) << bits | np.arange(draws)
        keys.sort(axis=1)
        item, number = keys >> bits, keys & ((1 << bits) - 1)
        wasted = seen[todo[:, None], item]
        wasted[:, 1:] |= item[:, 1:] == item[:, :-1]
        enough = draws - wasted.sum(axis=1) >= n_candidates
        # The other way round: back in the order of drawing, with what is wasted at the end.
        keys = (np.where(wasted, draws, number) << width.bit_length() | item)[enough]
        keys.sort(axis=1)
        chosen[todo[enough]] = keys[:, :n_candidates] & ((1 << width.bit_length()) - 1)
        todo = todo[~enough]
        draws *= 2
    return chosen
