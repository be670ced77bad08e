"""The three public releases of the Amazon reviews: file names, fields, units and addresses, in one table.

2014: McAuley et al., SIGIR 2015. 2018: Ni et al., EMNLP 2019. 2023: Hou et al., arXiv:2403.03952.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fields:
    """What a release calls the things that a row says, and how many units of its clock make a second."""

    user: str
    item: str
    rating: str
    timestamp: str
    ticks_per_second: int
    headline: str
    review: str


@dataclass(frozen=True)
class Layout:
    """One way in which a category is published: files (with {} for the category) that belong together."""

    names: tuple[str, ...]
    folder: str
    five_core: bool

    @property
    def has_reviews(self) -> bool:
        """Whether the rows hold what was written; the files of ratings alone are CSV."""
        return not any(name.endswith(".csv.gz") for name in self.names)

    def files(self, category: str) -> tuple[str, ...]:
        return tuple(name.format(category) for name in self.names)


@dataclass(frozen=True)
class Release:
    """A release. Layouts of the same ``five_core`` stand in order of preference; the first of them is downloaded."""

    base_url: str
    fields: Fields
    layouts: tuple[Layout, ...]
    metadata_name: str
    metadata_folder: str
    categories: tuple[str, ...]

    def preferred(self, five_core: bool) -> list[Layout]:
        """All layouts, those that are five-core (or are not) first."""
        return sorted(self.layouts, key=lambda layout: layout.five_core != five_core)

    def metadata_file(self, category: str) -> str:
        return self.metadata_name.format(category)


_UNTIL_2018 = Fields(
    "reviewerID", "asin", "overall", "unixReviewTime", ticks_per_second=1, headline="summary", review="reviewText"
)
_OF_2023 = Fields(
    "user_id", "parent_asin", "rating", "timestamp", ticks_per_second=1000, headline="title", review="text"
)

_COMMON = (
    "Automotive Books CDs_and_Vinyl Cell_Phones_and_Accessories Clothing_Shoes_and_Jewelry Digital_Music Electronics "
    "Grocery_and_Gourmet_Food Home_and_Kitchen Kindle_Store Movies_and_TV Musical_Instruments Office_Products "
    "Patio_Lawn_and_Garden Pet_Supplies Sports_and_Outdoors Tools_and_Home_Improvement Toys_and_Games Video_Games "
)


def _categories(others: str) -> tuple[str, ...]:
    return tuple(sorted((_COMMON + others).split()))


RELEASES = {
    "2014": Release(
        base_url="https://snap.stanford.edu/data/amazon/productGraph/categoryFiles",
        fields=_UNTIL_2018,
        layouts=(
            Layout(("reviews_{}_5.json.gz",), folder="", five_core=True),
            Layout(("reviews_{}.json.gz",), folder="", five_core=False),
        ),
        metadata_name="meta_{}.json.gz",
        metadata_folder="",
        categories=_categories("Amazon_Instant_Video Apps_for_Android Baby Beauty Health_and_Personal_Care"),
    ),
    "2018": Release(
        base_url="https://mcauleylab.ucsd.edu/public_datasets/data/amazon_v2",
        fields=_UNTIL_2018,
        layouts=(
            Layout(("{}_5.json.gz",), folder="categoryFilesSmall", five_core=True),
            Layout(("{}.json.gz",), folder="categoryFiles", five_core=False),
        ),
        metadata_name="meta_{}.json.gz",
        metadata_folder="metaFiles2",
        categories=_categories(
            "AMAZON_FASHION All_Beauty Appliances Arts_Crafts_and_Sewing Gift_Cards Industrial_and_Scientific "
            "Luxury_Beauty Magazine_Subscriptions Prime_Pantry Software"
        ),
    ),
    "2023": Release(
        base_url="https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023",
        fields=_OF_2023,
        layouts=(
            Layout(
                ("{}.train.csv.gz", "{}.valid.csv.gz", "{}.test.csv.gz"),
                folder="benchmark/5core/last_out_w_his",
                five_core=True,
            ),
            Layout(("{}.csv.gz",), folder="benchmark/5core/rating_only", five_core=True),
            Layout(("{}.jsonl.gz",), folder="raw/review_categories", five_core=False),
        ),
        metadata_name="meta_{}.jsonl.gz",
        metadata_folder="raw/meta_categories",
        categories=_categories(
            "All_Beauty Amazon_Fashion Appliances Arts_Crafts_and_Sewing Baby_Products Beauty_and_Personal_Care "
            "Gift_Cards Handmade_Products Health_and_Household Health_and_Personal_Care Industrial_and_Scientific "
            "Magazine_Subscriptions Software Subscription_Boxes Unknown"
        ),
    ),
}

#: Reviews of the five-core files of 2014, as their page counts them, and about how many bytes one takes when packed: for messages.
FIVE_CORE_REVIEWS = {
    "Amazon_Instant_Video": 37_126, "Apps_for_Android": 752_937, "Automotive": 20_473, "Baby": 160_792, "Beauty": 198_502, "Books": 8_898_041,
    "CDs_and_Vinyl": 1_097_592, "Cell_Phones_and_Accessories": 194_439, "Clothing_Shoes_and_Jewelry": 278_677, "Digital_Music": 64_706,
    "Electronics": 1_689_188, "Grocery_and_Gourmet_Food": 151_254, "Health_and_Personal_Care": 346_355, "Home_and_Kitchen": 551_682,
    "Kindle_Store": 982_619, "Movies_and_TV": 1_697_533, "Musical_Instruments": 10_261, "Office_Products": 53_258, "Patio_Lawn_and_Garden": 13_272,
    "Pet_Supplies": 157_836, "Sports_and_Outdoors": 296_337, "Tools_and_Home_Improvement": 134_476, "Toys_and_Games": 167_597, "Video_Games": 231_780,
}  # fmt: skip
PACKED_REVIEW_BYTES = 230
