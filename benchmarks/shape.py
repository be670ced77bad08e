"""``python -m benchmarks.shape FOLDER``: drawn data of Beauty's shape, for a machine without the review file.

Amazon Beauty 2014 5-core has 22,363 users, 12,101 items and 198,502 events, 5 to 204 a user. recbench's synthetic source draws as many users, a
catalogue as large, and lengths of the same least, mean and greatest; items that nobody meets fall out, so a few are missing. What the speed of
an epoch depends on is thereby met; how soon a model is good is that of the drawn data, not of Beauty.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks.data import Sequences

#: As words of recbench's command line, without ``data.``.
BEAUTY = {
    "n_users": 22_363,
    "n_items": 12_101,
    "min_length": 5,
    "mean_length": 8.88,
    "max_length": 204,
    "n_clusters": 240,
    "oracle_users": 1,
}


def main() -> None:
    from recbench.data.sources.synthetic_config import SyntheticConfig
    from recbench.data.store import prepare

    parser = argparse.ArgumentParser(prog="benchmarks.shape", description="Draw a data folder of Beauty's shape.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as cache:
        made = prepare(SyntheticConfig(**BEAUTY), Path(cache)).folder  # type: ignore[arg-type]
        sequences = Sequences.open(made)
        sequences.save(folder)
    print(json.dumps(sequences.counts()))


if __name__ == "__main__":
    main()
