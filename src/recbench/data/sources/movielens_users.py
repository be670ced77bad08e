"""Gender, age and occupation of MovieLens users, of the releases that tell them (100k, 1m). Postal codes are left out: they come near to a person.

Age is a band in 1m (1: under 18, 18: 18 to 24, 25, 35, 45, 50, 56: 56 and up); the years of 100k are put into the same bands.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from recbench.core.errors import UserError
from recbench.data import download
from recbench.data.schema import UserFile
from recbench.data.sources.movielens_releases import Release
from recbench.data.sources.raw_lines import BadRows, RawText, line_blocks
from recbench.data.sources.zip_members import find_member

ATTRIBUTES = ("gender", "age", "occupation")
#: The youngest age of each band.
BANDS = (1, 18, 25, 35, 45, 50, 56)


def read_users(ratings: RawText, release: Release, bad_rows: str, cache_dir: Path) -> UserFile:
    """The file of users that lies beside the ratings, or in their archive. Raises UserError if it is not there, and for a bad row under "error"."""
    text = _beside(ratings, release)
    bad = BadRows(bad_rows)
    rows: list[list[str]] = []
    for first, block in line_blocks(text.path, member=text.member):
        for number, line in enumerate(block.decode(release.layout.encoding).splitlines(), first):
            if not line.strip():
                continue
            fields = line.split(release.layout.user_separator)
            wanted = release.layout.user_fields
            if len(fields) != len(wanted):
                bad.add(text.shown, number, f"{len(fields)} fields, not {len(wanted)}")
                continue
            row = dict(zip(wanted, (field.strip() for field in fields), strict=True))
            if not row["user"].isdecimal() or not row["age"].isdecimal() or not row["gender"]:
                bad.add(text.shown, number, f"no usable user, age or gender: {line}")
                continue
            row["age"] = str(max(band for band in BANDS if band <= max(1, int(row["age"]))))
            rows.append([row["user"], *(row[name] for name in ATTRIBUTES)])
    schema = ["user", *ATTRIBUTES]
    table = pl.DataFrame(rows, schema=dict.fromkeys(schema, pl.String), orient="row")
    return UserFile(table, {text.path.name: str(download.hash_file(text.path, cache_dir)["sha256"])})


def _beside(ratings: RawText, release: Release) -> RawText:
    name = release.layout.users
    mend = "name a table of users with data.users.path=FILE"
    if name is None:
        raise UserError(f"this release of MovieLens ({release.archive}) says nothing of its users; {mend}")
    if ratings.member:
        return RawText(ratings.path, find_member(ratings.path, release.folder, name))
    folder = ratings.path.parent
    found = next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)
    if found is None:
        raise UserError(f"no {name} beside {ratings.path}; put it there, or {mend}")
    return RawText(found)
