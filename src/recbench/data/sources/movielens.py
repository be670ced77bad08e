"""MovieLens, straight from the archives that GroupLens publishes. Nothing of it is shipped with this package.

GroupLens lets the data be used for research. It forbids commercial use and redistribution without its permission (of the
newer releases, redistribution under other terms); the README in each archive has the terms. So whoever runs this
downloads the archive from GroupLens into their own cache, where it is read without being unpacked.

It is looked for in ``data.raw_dir`` and then in the cache, as the archive itself (``ml-1m.zip``), as the folder that it
unpacks to (``ml-1m/ratings.dat``) and as its bare files (``ratings.dat``), these also as ``.gz``. ``latest`` and
``latest-small`` change from year to year: two machines may hold different ones, and so different data.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbench.core.errors import MissingData, UserError
from recbench.data import download
from recbench.data.schema import PATH_ONLY, DataConfig, RawData, UserFile, check_choice
from recbench.data.sources.movielens_releases import BASE_URL, RELEASES, Release
from recbench.data.sources.object_store import Wants
from recbench.data.sources.raw_lines import RawText
from recbench.data.sources.zip_members import find_member

log = logging.getLogger(__name__)


@dataclass
class MovieLensConfig(DataConfig):
    """Which release. Ratings run from half a star or one star to five."""

    name: str = "movielens"
    version: str | None = "1m"
    k_core: int = 5
    #: Another server with the archives, instead of the official address.
    mirror: str | None = field(default=None, metadata=PATH_ONLY)

    def validate(self) -> None:
        """Raises UserError for an unknown release or choice, and for a category, which MovieLens has not."""
        super().validate()
        check_choice("data.version", str(self.version), tuple(RELEASES))
        if self.category:
            raise UserError(f"data.category={self.category}: MovieLens has no categories; set it to null")

    @property
    def release(self) -> Release:
        return RELEASES[str(self.version)]

    @property
    def knows_users(self) -> bool:
        """Whether the release says anything of its users."""
        return self.release.layout.users is not None


@dataclass(frozen=True)
class Found:
    """The two files of a release, and what is hashed in their place: themselves, or the archive that holds them.

    movies is None where a folder holds the ratings alone.
    """

    ratings: RawText
    movies: RawText | None
    hashed: tuple[Path, ...]


def locate(config: MovieLensConfig, cache_dir: Path) -> dict[str, dict[str, Any]]:
    """Find or download the raw files: name -> {"path", "size", "sha256"}. Raises UserError saying where it looked."""
    return _known(find(config, cache_dir), cache_dir)


def read(config: MovieLensConfig, spool: Path, cache_dir: Path) -> RawData:
    """Check every row and spool it; titles and genres are read later, for the movies that survive the cleaning."""
    from recbench.data.sources.movielens_movies import MovieReader
    from recbench.data.sources.movielens_rows import spool_ratings

    found, layout = find(config, cache_dir), config.release.layout
    counts = spool_ratings(found.ratings, layout, spool / "interactions.parquet", config.bad_rows)
    note = found.movies.shown.name if found.movies else f"no {layout.movies} beside the ratings"
    if found.movies is None:
        log.warning("%s: the items have no text", note)
    return RawData(
        interactions=spool / "interactions.parquet",
        items=MovieReader(found.movies, layout, counts, config.bad_rows) if found.movies else None,
        files=_known(found, cache_dir),
        counts=counts,
        extra={"metadata": note},
    )


def user_file(config: MovieLensConfig, cache_dir: Path) -> UserFile:
    """Gender, age and occupation of the users, of the releases 100k and 1m. Raises UserError where there is no such file."""
    from recbench.data.sources.movielens_users import read_users

    return read_users(find(config, cache_dir).ratings, config.release, config.bad_rows, cache_dir)


def find(config: MovieLensConfig, cache_dir: Path) -> Found:
    """The raw files, downloaded if they are not on this machine. Raises UserError if they cannot be had."""
    config.validate()
    cache = cache_dir / "raw" / "movielens" / str(config.version)
    places = [cache]
    if config.raw_dir is not None:
        raw_dir = Path(config.raw_dir).expanduser()
        if not raw_dir.exists():
            raise UserError(f"data.raw_dir={config.raw_dir} is not there; name the folder that holds the archive")
        _refuse_another_release(config, raw_dir)
        places = [raw_dir, cache]
    for place in places:
        if found := _look_in(place, config.release):
            return found
    return _download(config, places)


def raw_files(config: MovieLensConfig) -> Wants:
    """In the order in which ``find`` looks: the folder of the release, its archive, bare files; with the movies where they are there. Then the
    users, for releases that tell of them."""
    layout = config.release.layout
    ratings, movies = ([name, f"{name}.gz"] for name in (layout.ratings, layout.movies))

    def folder(name: str) -> list[list[list[str]]]:
        both = [[f"{name}{each}" for each in names] for names in (ratings, movies)]
        return [both, both[:1]]

    folders = config.release.folders
    inside = [option for name in folders for option in folder(f"{name}/")]
    wanted = [[*inside, [[config.release.zip_name]], *folder("")]]
    if layout.users is None:
        return wanted
    return [
        *wanted,
        [[[f"{name}{layout.users}", f"{name}{layout.users}.gz"]] for name in (*(f"{f}/" for f in folders), "")],
    ]


def _look_in(place: Path, release: Release) -> Found | None:
    """The release at a place, the most certain form first: bare files do not say which release they are of."""
    return _by_name(place, release) or _in_folder(place, release)


def _by_name(place: Path, release: Release) -> Found | None:
    """The archive, which may be the place itself, or the folder that it unpacks to."""
    if place.is_file():
        return _in_archive(place, release)
    for folder in release.folders:
        if found := _in_folder(place / folder, release):
            return found
    archive = place / release.zip_name
    return _in_archive(archive, release) if archive.is_file() else None


def _in_folder(folder: Path, release: Release) -> Found | None:
    ratings, movies = (_sibling(folder, name) for name in (release.layout.ratings, release.layout.movies))
    if ratings is None:
        return None
    return Found(RawText(ratings), RawText(movies) if movies else None, (ratings, *([movies] if movies else [])))


def _in_archive(archive: Path, release: Release) -> Found:
    names = (release.layout.ratings, release.layout.movies)
    ratings, movies = (RawText(archive, find_member(archive, release.folder, name)) for name in names)
    return Found(ratings, movies, (archive,))


def _sibling(folder: Path, name: str) -> Path | None:
    """The file, or its packed form, if one is there."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _known(found: Found, cache_dir: Path) -> dict[str, dict[str, Any]]:
    """Size and hash by name; a downloaded file is checked against the record of its download."""
    return {
        path.name: download.check(path) if download.has_record(path) else download.hash_file(path, cache_dir)
        for path in found.hashed
    }


def _refuse_another_release(config: MovieLensConfig, raw_dir: Path) -> None:
    """Raises UserError where what was named is plainly of another release: by its name, or by the form of its files."""
    own, name = config.release, raw_dir.absolute().name
    named = [version for version, release in RELEASES.items() if name in (release.zip_name, *release.folders)]
    if config.version in named or (not raw_dir.is_file() and _by_name(raw_dir, own)):
        return
    shown = raw_dir
    if not named and _sibling(raw_dir, own.layout.ratings) is None:
        shown, named = next(_bare_ratings(raw_dir), (raw_dir, []))
    if named:
        raise UserError(f"{shown} is of another release: set data.version={' or '.join(named)} (now {config.version})")


def _bare_ratings(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Rating files that lie in a folder as such, each with the releases that write them so."""
    for name in dict.fromkeys(release.layout.ratings for release in RELEASES.values()):
        if path := _sibling(folder, name):
            yield path, [version for version, release in RELEASES.items() if release.layout.ratings == name]


def _download(config: MovieLensConfig, places: list[Path]) -> Found:
    release = config.release
    url = f"{(config.mirror or BASE_URL).rstrip('/')}/{release.zip_name}"
    archive = places[-1] / release.zip_name
    try:
        download.fetch(url, archive)
    except download.DownloadFailed as error:
        ratings = release.layout.ratings
        raise MissingData(
            f"no raw file for MovieLens {config.version}: looked for {release.zip_name}, {release.folder}/{ratings} and "
            f"{ratings} (also .gz) in {', '.join(str(place) for place in places)}; downloading {url} failed: {error}. "
            f"Fetch {url} ({download.size_words(url, release.size)}) elsewhere and put it into "
            "one of these folders, or name its folder with data.raw_dir"
        ) from error
    return _in_archive(archive, release)
