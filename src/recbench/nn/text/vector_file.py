"""Item vectors that somebody else made, in a file keyed by raw item ids."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recbench.core.errors import UserError

if TYPE_CHECKING:
    from recbench.data.prepared import PreparedData

HOW = (
    "a .parquet with a column 'item' (raw ids) and a column 'vector' (lists of equal length), a .npz with arrays 'item' [N] and 'vector' [N, D], "
    "or a .npy [N, D] with the ids beside it, one a line, in a file of the same name that ends in .txt"
)


def ready_file(path: str) -> Path:
    """Raises UserError for a file that is not there or of another kind."""
    found = Path(path).expanduser()
    if found.suffix not in (".parquet", ".npz", ".npy"):
        raise UserError(f"data.text.path={path} is of no known kind; give {HOW}")
    if not found.is_file():
        raise UserError(f"data.text.path={path} is not there; give {HOW}")
    return found


def ready_files(path: str) -> list[Path]:
    """All files that the vectors are read from."""
    found = ready_file(path)
    return [found, found.with_suffix(".txt")] if found.suffix == ".npy" else [found]


def ready_vectors(data: PreparedData, path: str) -> tuple[np.ndarray, int]:
    """([n_items, D] float32 in item order, items that the file does not hold: their rows are 0).

    Raises UserError for files that cannot be read, ids that stand twice, vectors that are not finite, and a file that holds none of the items.
    """
    ids, vectors = _read(ready_file(path))
    if vectors.ndim != 2 or len(ids) != len(vectors):
        raise UserError(f"{path}: {len(ids)} ids do not fit vectors of shape {vectors.shape}; give {HOW}")
    if not np.isfinite(vectors).all():
        raise UserError(f"{path}: the vectors hold NaN or infinity")
    place = {name: row for row, name in enumerate(ids)}
    if len(place) < len(ids):
        raise UserError(f"{path}: {len(ids) - len(place)} ids stand more than once; give every item one vector")
    rows = np.array([place.get(name, -1) for name in data.item_table().sort("item_id")["item"].to_list()])
    if not (rows >= 0).any():
        raise UserError(
            f"{path} holds a vector for none of the items; its first id is {ids[0] if ids else None!r}, "
            f"that of the data {data.item_table()['item'][0]!r}"
        )
    out = np.zeros((data.n_items, vectors.shape[1]), dtype=np.float32)
    out[rows >= 0] = vectors[rows[rows >= 0]]
    return out, int((rows < 0).sum())


def _read(path: Path) -> tuple[list[str], np.ndarray]:
    try:
        if path.suffix == ".parquet":
            import polars as pl

            table = pl.read_parquet(path, columns=["item", "vector"])
            return table["item"].cast(pl.String).to_list(), np.array(table["vector"].to_list(), dtype=np.float32)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as held:
                return [str(name) for name in held["item"]], np.asarray(held["vector"], dtype=np.float32)
        names = path.with_suffix(".txt").read_text(encoding="utf-8").splitlines()
        return names, np.asarray(np.load(path, allow_pickle=False), dtype=np.float32)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"cannot read {path} ({str(error).splitlines()[0]}); give {HOW}") from error
    except Exception as error:
        # Polars has a family of errors of its own, for wrong columns and for damaged files.
        if type(error).__module__.startswith("polars"):
            raise UserError(f"cannot read {path} ({str(error).splitlines()[0]}); give {HOW}") from error
        raise
