"""The releases of MovieLens: which archive, which folder in it, how its two files are written, in one table.

Harper and Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015.
"""

from __future__ import annotations

from dataclasses import dataclass

BASE_URL = "https://files.grouplens.org/datasets/movielens"


@dataclass(frozen=True)
class Layout:
    """How the files of a release are written. Without a header the ratings are user, item, rating, timestamp.

    separator: between the fields of the ratings; movie_separator: between those of the movies. flags: the genres of a
    movie are yes-or-no fields, in the order of FLAGGED_GENRES, instead of one field cut at "|".
    """

    ratings: str
    movies: str
    separator: str
    movie_separator: str
    encoding: str
    header: bool = False
    flags: bool = False
    #: The file of users, the separator of its fields and what they are; releases since 2009 say nothing of their users.
    users: str | None = None
    user_separator: str = "::"
    user_fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class Release:
    """One release: ``<archive>.zip`` holds the files of the layout in the folder ``folder``."""

    archive: str
    folder: str
    layout: Layout
    #: Size of the archive in bytes, to be told; one that changes from year to year has none.
    size: int | None = None

    @property
    def zip_name(self) -> str:
        return f"{self.archive}.zip"

    @property
    def folders(self) -> tuple[str, ...]:
        """What an unpacked release may be called, the name in the archive first."""
        return tuple(dict.fromkeys((self.folder, self.archive)))


#: The genres of u.item, from its sixth field on.
FLAGGED_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip

#: What stands in place of a genre, or of a title, where there is none.
NO_GENRE = ("(no genres listed)", "unknown")
NO_TITLE = "unknown"

_OF_1998 = Layout(
    "u.data", "u.item", "\t", "|", "latin-1", flags=True,
    users="u.user", user_separator="|", user_fields=("user", "age", "gender", "occupation", "zip"),
)  # fmt: skip
_OF_2003 = Layout(
    "ratings.dat", "movies.dat", "::", "::", "latin-1",
    users="users.dat", user_fields=("user", "gender", "age", "occupation", "zip"),
)  # fmt: skip
_OF_2009 = Layout("ratings.dat", "movies.dat", "::", "::", "utf-8")
_CSV = Layout("ratings.csv", "movies.csv", ",", ",", "utf-8", header=True)

RELEASES = {
    "100k": Release("ml-100k", "ml-100k", _OF_1998, 4_924_029),
    "1m": Release("ml-1m", "ml-1m", _OF_2003, 5_917_549),
    "10m": Release("ml-10m", "ml-10M100K", _OF_2009, 65_566_137),
    "20m": Release("ml-20m", "ml-20m", _CSV, 198_702_078),
    "25m": Release("ml-25m", "ml-25m", _CSV, 261_978_986),
    "32m": Release("ml-32m", "ml-32m", _CSV, 238_950_008),
    "latest-small": Release("ml-latest-small", "ml-latest-small", _CSV, 978_202),
    "latest": Release("ml-latest", "ml-latest", _CSV),
}
