"""Amazon reviews, straight from the published files of the 2014, 2018 and 2023 releases.

Files are looked for in ``data.raw_dir`` (flat, or in a subfolder named after the release), then in the cache, and are
downloaded into the cache otherwise. Unpacked siblings (``.json`` for ``.json.gz`` and so on) are taken as well.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbench.core.errors import MissingData, UserError, nearest
from recbench.data import download
from recbench.data.schema import PATH_ONLY, DataConfig, RawData, check_choice
from recbench.data.sources.amazon_releases import FIVE_CORE_REVIEWS, PACKED_REVIEW_BYTES, RELEASES, Layout, Release
from recbench.data.sources.object_store import Wants

log = logging.getLogger(__name__)

#: A failed download of metadata, which a run can do without, is tried again after so many seconds.
METADATA_RETRY_SECONDS = 24 * 3600


@dataclass
class AmazonConfig(DataConfig):
    """Which release and category, and which of its published files."""

    name: str = "amazon"
    version: str | None = "2014"
    category: str | None = "Beauty"
    k_core: int = 5
    #: Which published files: "5core", "full" (all reviews), or "auto": 5core where k_core asks for 5 or more, full
    #: where it asks for less, and whichever is there if only one is.
    files: str = "auto"
    #: Another server with the folders of the release, instead of the official address.
    mirror: str | None = field(default=None, metadata=PATH_ONLY)

    def validate(self) -> None:
        """Raises UserError for an unknown release or choice. Categories are free: a local file may bring a new one."""
        super().validate()
        check_choice("data.version", str(self.version), tuple(RELEASES))
        check_choice("data.files", self.files, ("auto", "5core", "full"))
        if not self.layouts():
            raise UserError(
                f"the files of Amazon {self.version} with data.files={self.files} hold no reviews; set data.files=full, or leave reviews out of "
                "data.keep"
            )
        if not self.category:
            raise UserError("data.category is empty; name a category of the release, for example data.category=Beauty")

    @property
    def release(self) -> Release:
        return RELEASES[str(self.version)]

    @property
    def category_name(self) -> str:
        """The category as it stands in file names: "Sports & Outdoors" is Sports_and_Outdoors."""
        return "_".join(str(self.category).replace("&", " and ").replace(",", " ").split())

    def about_bytes(self, layout: Layout) -> float | None:
        """About how large the file of interactions is; None where that is not known."""
        reviews = FIVE_CORE_REVIEWS.get(self.category_name) if self.version == "2014" and layout.five_core else None
        return None if reviews is None else reviews * PACKED_REVIEW_BYTES

    def layouts(self) -> list[Layout]:
        """The layouts to look for, best first."""
        ordered = self.release.preferred(five_core=self.k_core >= 5 if self.files == "auto" else self.files == "5core")
        if "reviews" in self.keep:
            ordered = [layout for layout in ordered if layout.has_reviews]
        if self.files == "auto":
            return ordered
        return [layout for layout in ordered if layout.five_core == (self.files == "5core")]


@dataclass
class Found:
    """The raw files of a category: interactions, metadata (None: ``note`` says why), size and hash by file name."""

    interactions: list[Path]
    metadata: Path | None
    note: str
    files: dict[str, dict[str, Any]]


def locate(config: AmazonConfig, cache_dir: Path) -> dict[str, dict[str, Any]]:
    """Find or download the raw files: name -> {"path", "size", "sha256"}. Raises UserError saying where it looked."""
    return find(config, cache_dir).files


def read(config: AmazonConfig, spool: Path, cache_dir: Path) -> RawData:
    """Check every row and spool it; metadata are read later, for the items that survive the cleaning."""
    from recbench.data.sources.amazon_metadata import MetadataReader
    from recbench.data.sources.amazon_reviews import spool_reviews

    found = find(config, cache_dir)
    if found.metadata is None:
        log.warning("%s: the items have no text", found.note)
    fields = config.release.fields
    counts = spool_reviews(
        found.interactions, fields, spool / "interactions.parquet", config.bad_rows, reviews="reviews" in config.keep
    )
    return RawData(
        interactions=spool / "interactions.parquet",
        items=MetadataReader(found.metadata, counts) if found.metadata else None,
        files=found.files,
        counts=counts,
        extra={"metadata": found.note},
        ticks_per_second=fields.ticks_per_second,
    )


def find(config: AmazonConfig, cache_dir: Path) -> Found:
    """The raw files, downloaded if they are not on this machine."""
    config.validate()
    folders = _folders(config, cache_dir)
    cache = folders[-1]
    interactions = _look_up(config, folders) or _download(config, folders)
    name = config.release.metadata_file(config.category_name)
    metadata, note = _first_of(name, folders), name
    if metadata is None:
        note = f"no {name} beside the interactions"
        if interactions[0].parent == cache:
            metadata, note = _download_metadata(config, cache)
    paths = [*interactions, *([metadata] if metadata else [])]
    return Found(interactions, metadata, note, {path.name: _known(path, cache_dir) for path in paths})


def raw_files(config: AmazonConfig) -> Wants:
    """In the order in which ``find`` looks: interactions, then metadata; flat, or in a folder of the release."""

    def option(prefix: str, names: Iterable[str]) -> list[list[str]]:
        return [[f"{prefix}{name}", f"{prefix}{name.removesuffix('.gz')}"] for name in names]

    prefixes = ("", f"{config.version}/")
    interactions = [option(p, layout.files(config.category_name)) for layout in config.layouts() for p in prefixes]
    return [interactions, [option(p, [config.release.metadata_file(config.category_name)]) for p in prefixes]]


def _folders(config: AmazonConfig, cache_dir: Path) -> list[Path]:
    cache = cache_dir / "raw" / "amazon" / str(config.version)
    if config.raw_dir is None:
        return [cache]
    raw_dir = Path(config.raw_dir).expanduser()
    if not raw_dir.is_dir():
        raise UserError(
            f"data.raw_dir={config.raw_dir} is not a folder; name the folder that holds the raw Amazon files"
        )
    return [raw_dir, raw_dir / str(config.version), cache]


def _look_up(config: AmazonConfig, folders: list[Path]) -> list[Path] | None:
    for layout in config.layouts():
        for folder in folders:
            paths = [_sibling(folder, name) for name in layout.files(config.category_name)]
            if all(paths):
                return [path for path in paths if path]
    return None


def _sibling(folder: Path, name: str) -> Path | None:
    """The file, or its unpacked form, if one is there."""
    for candidate in (folder / name, folder / name.removesuffix(".gz")):
        if candidate.is_file():
            return candidate
    return None


def _first_of(name: str, folders: list[Path]) -> Path | None:
    return next((path for folder in folders if (path := _sibling(folder, name))), None)


def _known(path: Path, cache_dir: Path) -> dict[str, Any]:
    """Size and hash; a downloaded file is checked against the record of its download."""
    return download.check(path) if download.has_record(path) else download.hash_file(path, cache_dir)


def _url(config: AmazonConfig, folder: str, name: str) -> str:
    base = (config.mirror or config.release.base_url).rstrip("/")
    return "/".join(part for part in (base, folder, name) if part)


def _download(config: AmazonConfig, folders: list[Path]) -> list[Path]:
    layout = config.layouts()[0]
    _refuse_unlikely(config, folders)
    paths = []
    for name in layout.files(config.category_name):
        url = _url(config, layout.folder, name)
        try:
            download.fetch(url, folders[-1] / name)
        except download.DownloadFailed as error:
            wanted = " or ".join(" + ".join(each.files(config.category_name)) for each in config.layouts())
            places = ", ".join(str(folder) for folder in folders)
            raise MissingData(
                f"no raw file for Amazon {config.version} {config.category_name}: looked for {wanted} in {places}; "
                f"downloading {url} failed: {error}. "
                f"Fetch {url} ({download.size_words(url, config.about_bytes(layout))}) elsewhere and put the file into one of these folders, or "
                "name its folder with data.raw_dir"
            ) from error
        paths.append(folders[-1] / name)
    return paths


def _refuse_unlikely(config: AmazonConfig, folders: list[Path]) -> None:
    """Before any download: a misspelt category, or a file of another release beside where we looked, is a slip."""
    category = config.category_name
    for version, release in RELEASES.items():
        for name in (name for layout in release.layouts for name in layout.files(category)):
            if version != config.version and config.raw_dir and (path := _first_of(name, folders[:-1])):
                raise UserError(f"{path} belongs to another release: set data.version={version} (now {config.version})")
    if category not in config.release.categories:
        known = nearest(category, list(config.release.categories))
        raise UserError(f"unknown category '{category}' of Amazon {config.version} and no such file at hand; {known}")


def _download_metadata(config: AmazonConfig, cache: Path) -> tuple[Path | None, str]:
    """Metadata are worth one attempt a day: most models do without them."""
    name = config.release.metadata_file(config.category_name)
    failure = cache / f"{name}.failed"
    if failure.exists() and time.time() - failure.stat().st_mtime < METADATA_RETRY_SECONDS:
        return None, failure.read_text(encoding="utf-8")
    url = _url(config, config.release.metadata_folder, name)
    if (
        download.is_offline()
    ):  # with them the data would have another key, so what can be said now is that they are not here
        raise MissingData(
            f"no metadata for Amazon {config.version} {config.category_name} in {cache}; the next run fetches {url}"
        )
    try:
        download.fetch(url, cache / name, backoff=())
    except download.DownloadFailed as error:
        note = f"downloading {url} failed: {error} (tried again a day later, or when {failure} is deleted)"
        failure.write_text(note, encoding="utf-8")
        return None, note
    failure.unlink(missing_ok=True)
    return cache / name, name
