"""What every data source takes and gives: its config, the rows it spools, the item table.

A source is a module with

- ``read(config, spool, cache_dir) -> RawData``: find or fetch the raw files, check every row, write the good ones to a
  Parquet file in the folder ``spool``;
- optionally ``locate(config, cache_dir) -> dict[str, dict]``: find or fetch the raw files without reading them. The
  store needs their hashes to tell whether the data were prepared before; a generator, without files, leaves it out;
- optionally ``raw_files(config)``: which files of ``data.raw_dir`` it reads (``recbench.data.sources.object_store.Wants``), so that they can be
  fetched where that is an address;
- optionally what it knows beside the events, each made when somebody asks for it: ``item_features(config)``, kind -> (raw
  item ids [N], vectors [N, D]); ``knowledge(config) -> RawKnowledge``; ``user_table(config)``, a table with the column
  ``user`` (raw ids) and one for each attribute, or ``user_file(config, cache_dir) -> UserFile`` of a source that reads
  them from a file, unless ``knows_users`` of the config is false; ``impressions(config, to)``, which writes the Parquet file that
  ``recbench.data.impressions`` describes and returns counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbench.core.errors import UserError
from recbench.core.key_fields import LATER, enters_no_key
from recbench.data.beside_config import FeaturesConfig, KnowledgeConfig, UsersConfig
from recbench.data.keep_config import check_keep
from recbench.data.text_config import TextConfig

if TYPE_CHECKING:
    import polars as pl

    ItemReader = Callable[["pl.Series"], "pl.DataFrame"]

#: Marks a config field that says where bytes lie, not what they are: it stays out of the key of the prepared data.
PATH_ONLY = {"path_only": True}

#: Marks a config field about what stands beside the events, such as vectors of items: it changes neither the prepared data nor their key, and
#: enters the keys of those runs alone that read it, and only while it is not at its default.
BESIDE = PATH_ONLY | LATER

#: Columns of the spooled interactions, in file order. A source may leave out the last three; they then read as null. There may be a column
#: ``review`` besides (str), which is read where ``data.keep`` asks for it.
INTERACTION_COLUMNS = ("user", "item", "timestamp", "rating", "behaviour", "session")

#: Seconds from 1970 to the year 10000. A timestamp beyond is in another unit than it claims.
LATEST_SECOND = 253_402_300_800

#: Columns of an item table beside the id; a source may leave out those that it does not know.
ITEM_COLUMNS = ("title", "brand", "categories", "price", "description")


@dataclass
class DataConfig:
    """Settings that every data source shares; each source derives its own config from this one.

    name: the source. raw_dir: folder with the raw files, searched before the cache. version, category: which release
    and which part of it, where a source has several. k_core: keep users and items with at least that many interactions
    (0: all). min_rating: keep interactions rated at least that (None: all). repeats: "keep", or "first" to keep only a
    user's first interaction with an item. bad_rows: "error" stops at the first unreadable row and names it, "skip"
    counts and drops them. session_gap: cut every user's events into sessions wherever more than so many seconds pass
    between two of them (None: the sessions that the source names, if it does). shuffle_ties: a seed; events of one user
    at one time stand in an order drawn with it (None: in that of the file, which may tell more than a clock). keep: what
    else is kept of each event, any of ratings and reviews. text: how item texts become vectors.
    """

    name: str = ""
    raw_dir: str | None = field(default=None, metadata=PATH_ONLY)
    version: str | None = None
    category: str | None = None
    k_core: int = 5
    min_rating: float | None = None
    repeats: str = "keep"
    bad_rows: str = "error"
    session_gap: int | None = field(default=None, metadata=LATER)
    shuffle_ties: int | None = field(default=None, metadata=LATER)
    keep: list[str] = field(default_factory=list, metadata=LATER)
    #: Of those who read text vectors alone; the prepared data are the same under all of it.
    text: TextConfig = field(default_factory=TextConfig, metadata=PATH_ONLY)
    #: Vectors of items, a knowledge graph and attributes of users: of those who read them alone, as texts are.
    features: FeaturesConfig = field(default_factory=FeaturesConfig, metadata=PATH_ONLY)
    knowledge: KnowledgeConfig = field(default_factory=KnowledgeConfig, metadata=PATH_ONLY)
    users: UsersConfig = field(default_factory=UsersConfig, metadata=PATH_ONLY)
    #: What a behaviour is worth, by name; empty: the usual words (``recbench.data.rewards``).
    rewards: dict[str, float] = field(default_factory=dict, metadata=BESIDE)

    def validate(self) -> None:
        """Raises UserError for a value outside the choices."""
        check_choice("data.repeats", self.repeats, ("keep", "first"))
        check_choice("data.bad_rows", self.bad_rows, ("error", "skip"))
        check_keep(self.keep)
        for part in (self.text, self.features, self.knowledge, self.users):
            part.validate()
        for name, value in self.rewards.items():
            if not 0 <= value < float("inf"):
                raise UserError(f"data.rewards.{name}={value:g} must be a number of 0 or more")
        if self.k_core < 0:
            raise UserError(f"data.k_core={self.k_core} is negative; use 0 to keep every user and item")
        if self.shuffle_ties is not None and self.shuffle_ties < 0:
            raise UserError(
                f"data.shuffle_ties={self.shuffle_ties} is a seed: 0 or more, or null for the order of the file"
            )
        if self.session_gap is not None and self.session_gap < 1:
            raise UserError(
                f"data.session_gap={self.session_gap} must be at least 1 second, or null to cut no sessions"
            )

    def labels(self) -> list[str]:
        """Words by which a person knows these data; what the folder of the prepared data is called by."""
        return [str(word) for word in (self.name, self.version, self.category) if word]

    def title(self) -> str:
        """The same as one line, for tables of results."""
        return " ".join(self.labels())


def base_of(config: DataConfig) -> Path:
    """Where relative paths start: ``data.raw_dir`` if it is set."""
    return Path(config.raw_dir).expanduser() if config.raw_dir else Path()


def check_choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises UserError, listing the choices, if ``value`` is none of them."""
    if value not in choices:
        raise UserError(f"{key}={value} is not known; choose one of: {', '.join(choices)}")


def content_settings(config: Any) -> dict[str, Any]:
    """The settings of a config dataclass that decide what the data are, nested ones included.

    Left out are paths, and fields marked LATER while they are at their default.
    """
    settings: dict[str, Any] = {}
    for part in fields(config):
        value = getattr(config, part.name)
        if part.metadata.get("path_only") or enters_no_key(part, value):
            continue
        settings[part.name] = content_settings(value) if hasattr(value, "__dataclass_fields__") else value
    return settings


@dataclass
class RawData:
    """What a source read.

    interactions: Parquet file with INTERACTION_COLUMNS in file order: user, item (str, never null), timestamp (int64
    Unix time, ``ticks_per_second`` of them a second, never null), rating (float32), behaviour, session, review (str). items:
    the item table (``item`` and ITEM_COLUMNS), or a function that reads it for the wanted raw ids alone, so that a
    large metadata file is never held whole; None where the source has none. files: file name -> {"path", "size",
    "sha256"}. counts: rows read and rejected, by reason. extra: goes into the manifest. ticks_per_second: 1000 keeps
    events of one second in their order of milliseconds; the store keeps whole seconds. given_parts: others have split these data; the
    Parquet file has a column ``part`` (int8) as in ``recbench.data.given_parts``, and no user or item is filtered out.
    """

    interactions: Path
    items: pl.DataFrame | ItemReader | None = None
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    has_timestamps: bool = True
    extra: dict[str, Any] = field(default_factory=dict)
    ticks_per_second: int = 1
    given_parts: bool = False


@dataclass(frozen=True)
class UserFile:
    """Attributes of users as they were read. table: user (raw id) and a column of words for each attribute; content: file -> its hash."""

    table: pl.DataFrame
    content: dict[str, str]


@dataclass(frozen=True)
class RawKnowledge:
    """A knowledge graph as it was read, all of it strings.

    triples: columns head, relation, tail. links: columns item (raw id) and entity, for the items that are entities of the graph. counts: rows
    that were left out, by reason.
    """

    triples: pl.DataFrame
    links: pl.DataFrame
    counts: dict[str, int] = field(default_factory=dict)
