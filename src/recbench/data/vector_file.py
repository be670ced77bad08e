"""Item vectors that somebody else made, in a file."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recbench.core.errors import UserError, first_line
from recbench.data.clicks.known_fields import UNKNOWN_ITEMS
from recbench.data.item_numbers import item_numbers
from recbench.data.sources.raw_lines import line_blocks, unpack

if TYPE_CHECKING:
    from recbench.data.prepared import PreparedData

HOW = (
    "a .parquet with a column 'item' (raw ids) and a column 'vector' (lists of equal length), a .npz with arrays 'item' [N] and 'vector' [N, D], "
    "or a .npy [N, D] with the ids beside it, one a line, in a file of the same name that ends in .txt"
)
BY_NUMBER = "; without that file row r of a .npy is the vector of the item whose raw id is the number r"
ENDINGS = (".parquet", ".npz", ".npy", ".npy.gz")


def ready_file(path: str | Path, key: str = "data.text.path") -> Path:
    """Raises UserError, that names the key, for a file that is not there or of another kind."""
    found, how = Path(path).expanduser(), HOW if key == "data.text.path" else HOW + BY_NUMBER
    if not found.name.endswith(ENDINGS):
        raise UserError(f"{key}={path} is of no known kind; give {how}")
    if not found.is_file():
        raise UserError(f"{key}={path} is not there; give {how}")
    return found


def ready_files(path: str | Path, key: str = "data.text.path", by_number: bool = False) -> list[Path]:
    """All files that the vectors are read from. by_number: a .npy needs no ids beside it."""
    found = ready_file(path, key)
    ids = _ids_of(found)
    return [found, ids] if _is_npy(found) and (ids.is_file() or not by_number) else [found]


def ready_vectors(
    data: PreparedData, path: str | Path, key: str = "data.text.path", by_number: bool = False
) -> tuple[np.ndarray, int]:
    """([n_items, D] float32 in item order, items that the file does not hold: their rows are 0).

    Raises UserError for files that cannot be read, ids that stand twice, vectors that are not finite, and a file that holds none of the items;
    and by number for one with fewer rows than the largest id asks for, and for ids that are no numbers.
    """
    file = ready_file(path, key)
    wanted = data.item_table().sort("item_id")["item"].to_list()
    counted = by_number and _is_npy(file) and not _ids_of(file).is_file()
    ids, vectors = _read(file, counted)
    if vectors.ndim != 2 or (not counted and len(ids) != len(vectors)):
        raise UserError(f"{path}: {len(ids)} ids do not fit vectors of shape {vectors.shape}; give {HOW}")
    wrong = len(vectors) - int(np.isfinite(vectors).all(axis=1).sum())
    if wrong:
        raise UserError(f"{path}: the vectors hold NaN or infinity, in {wrong:,} of {len(vectors):,} rows")
    rows = _numbered(wanted, len(vectors), file) if counted else _named(data, ids, file)
    out = np.zeros((data.n_items, vectors.shape[1]), dtype=np.float32)
    out[rows >= 0] = vectors[rows[rows >= 0]]
    return out, int((rows < 0).sum())


def _named(data: PreparedData, ids: list[str], path: Path) -> np.ndarray:
    """[n_items] the row of each item, -1 where there is none."""
    if len(set(ids)) < len(ids):
        raise UserError(f"{path}: {len(ids) - len(set(ids))} ids stand more than once; give every item one vector")
    number = item_numbers(data, ids)
    rows = np.full(data.n_items, -1)
    rows[number[number > 0] - 1] = np.flatnonzero(number)
    if not (rows >= 0).any():
        raise UserError(
            f"{path} holds a vector for none of the items; its first id is {ids[0] if ids else None!r}, "
            f"that of the data {data.item_table()['item'][0]!r}"
        )
    return rows


def _numbered(wanted: list[str], n: int, path: Path) -> np.ndarray:
    """[n_items] the row of each item by its raw id, which is a number."""
    real = [name for name in wanted if name != UNKNOWN_ITEMS]
    named = next((name for name in real if not (name.isascii() and name.isdecimal())), None)
    if named is not None:
        raise UserError(
            f"{path}: raw ids of the items, such as {named!r}, are no numbers of rows; give {HOW}, here {_ids_of(path).name}"
        )
    rows = np.array([int(name) if name != UNKNOWN_ITEMS else -1 for name in wanted])
    if rows.max() >= n:
        raise UserError(
            f"{path} has {n:,} rows, but the items go to the raw id {rows.max()}, which would be row {rows.max():,} of at least "
            f"{rows.max() + 1:,}; give the right file, or the ids of its rows, one a line, in {_ids_of(path).name}"
        )
    return rows


def _is_npy(path: Path) -> bool:
    return path.name.endswith((".npy", ".npy.gz"))


def _ids_of(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".gz").removesuffix(".npy") + ".txt")


def _read(path: Path, counted: bool) -> tuple[list[str], np.ndarray]:
    try:
        if path.suffix == ".parquet":
            import polars as pl

            table = pl.read_parquet(path, columns=["item", "vector"])
            return table["item"].cast(pl.String).to_list(), np.array(table["vector"].to_list(), dtype=np.float32)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as held:
                return [str(name) for name in held["item"]], np.asarray(held["vector"], dtype=np.float32)
        return [] if counted else _lines(_ids_of(path)), np.asarray(_array(path), dtype=np.float32)
    except UserError:
        raise
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"cannot read {path} ({first_line(error)}); give {HOW}") from error
    except Exception as error:
        # Polars has a family of errors of its own, for wrong columns and for damaged files.
        if type(error).__module__.startswith("polars"):
            raise UserError(f"cannot read {path} ({first_line(error)}); give {HOW}") from error
        raise


def _array(path: Path) -> np.ndarray:
    if path.suffix != ".gz":
        return np.asarray(np.load(path, allow_pickle=False))
    with tempfile.TemporaryDirectory() as folder:
        return np.asarray(np.load(unpack(path, Path(folder) / "vectors.npy"), allow_pickle=False))


def _lines(path: Path) -> list[str]:
    """The lines of a file of ids."""
    return [line for _, block in line_blocks(path, encoding="utf-8") for line in block.decode().splitlines()]
