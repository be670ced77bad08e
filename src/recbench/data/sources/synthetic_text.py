"""Names and descriptions for synthetic items: each cluster has a vocabulary, brands and a price level of its own.

Words are made of syllables, so that any number of clusters gets words, and none of them means anything beyond its cluster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import polars as pl

CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"
WORDS_PER_CLUSTER, BRANDS_PER_CLUSTER, COMMON_WORDS = 16, 3, 64
TITLE_WORDS, DESCRIPTION_WORDS = 3, 14
REVIEW_WORDS = 5
RATING_WORDS = {1: "awful", 2: "poor", 3: "fair", 4: "good", 5: "great"}


def item_table(names: pl.Series, cluster: np.ndarray, text_signal: float, rng: np.random.Generator) -> pl.DataFrame:
    """Columns item, title, brand, categories, price, description, one row for each of ``names`` [V].

    text_signal: chance that a word, and the brand, comes from the item's cluster rather than from what all clusters share.
    """
    import polars as pl

    v, n_clusters = len(names), int(cluster.max(initial=0)) + 1
    vocabulary = _new_words(n_clusters * (WORDS_PER_CLUSTER + BRANDS_PER_CLUSTER + 1) + COMMON_WORDS, rng)
    # The vocabulary holds the words of each cluster, then the brands of each, then one category each, then the common words.
    brands = n_clusters * WORDS_PER_CLUSTER
    categories = brands + n_clusters * BRANDS_PER_CLUSTER
    common = categories + n_clusters

    def pick(own_start: int, own: int, shared_start: int, shared: int) -> pl.Series:
        """One word for each item: one of ``own`` of its cluster, or one of ``shared``."""
        mine = own_start + cluster * own + rng.integers(own, size=v)
        other = shared_start + rng.integers(shared, size=v)
        return vocabulary.gather(np.where(rng.random(v) < text_signal, mine, other))

    def words(count: int) -> pl.DataFrame:
        return pl.DataFrame([pick(0, WORDS_PER_CLUSTER, common, COMMON_WORDS).alias(str(i)) for i in range(count)])

    brand = pick(brands, BRANDS_PER_CLUSTER, brands, n_clusters * BRANDS_PER_CLUSTER).str.to_titlecase()
    category = pick(categories, 1, categories, n_clusters).str.to_titlecase()
    level = np.exp(rng.normal(3.0, 0.8, size=n_clusters))
    price = np.round(level[cluster] * np.exp(rng.normal(0.0, 0.4, size=v)), 2)
    joined = pl.concat_str(pl.all(), separator=" ")
    return pl.DataFrame({"item": names, "brand": brand, "category": category, "price": price}).select(
        "item",
        pl.concat_str("brand", words(TITLE_WORDS).select(joined).to_series(), separator=" ").alias("title"),
        "brand",
        pl.concat_list(pl.lit("Synthetic"), "category").alias("categories"),
        "price",
        words(DESCRIPTION_WORDS).select(joined).to_series().alias("description"),
    )


def reviews(events: pl.DataFrame, items: pl.DataFrame) -> pl.Series:
    """A review of each event [N]: a word for its rating, and the first words of the item's description. events: with item and rating."""
    import polars as pl

    said = pl.col("rating").round().cast(pl.Int64).replace_strict(RATING_WORDS, default="fair", return_dtype=pl.String)
    words = pl.col("description").str.split(" ").list.head(REVIEW_WORDS).list.join(" ")
    joined = events.join(items.select("item", "description"), on="item", how="left", maintain_order="left")
    return joined.select(pl.concat_str(said, words, separator=" "))["rating"]


def _new_words(n: int, rng: np.random.Generator) -> pl.Series:
    """[n] distinct words, in an order that carries no meaning."""
    import polars as pl

    syllables = [c + v for c in CONSONANTS for v in VOWELS]
    count = 2
    while len(syllables) ** count < 4 * n:
        count += 1
    codes = rng.choice(len(syllables) ** count, size=n, replace=False)
    parts = np.array(syllables)[codes[:, None] // len(syllables) ** np.arange(count) % len(syllables)]
    return pl.Series(["".join(word) for word in parts.tolist()])
