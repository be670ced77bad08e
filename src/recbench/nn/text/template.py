"""The text of each item by a template, and how much of it is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recbench.data.text_config import TEXT_FIELDS, template_segments

if TYPE_CHECKING:
    import polars as pl

    from recbench.data.prepared import PreparedData


def template_texts(data: PreparedData, template: str) -> tuple[list[str], dict[str, int]]:
    """([n_items] texts of the items 1, 2, ..., items without each field of the template, and under "text" without any of them).

    A segment of which a field is unknown for an item is left out of the item's text. Raises UserError as ``template_segments`` does.
    """
    segments = template_segments(template)
    wanted = [name for name in TEXT_FIELDS if any(name in fields for _, fields in segments)]
    columns = _as_words(data.item_table().sort("item_id"), wanted)
    texts = []
    for values in zip(*(columns[name] for name in wanted), strict=True):
        known = dict(zip(wanted, values, strict=True))
        said = [segment.format(**known) for segment, fields in segments if all(known[name] for name in fields)]
        texts.append("; ".join(said))
    missing = {name: sum(not value for value in columns[name]) for name in wanted}
    return texts, {**missing, "text": sum(not text for text in texts)}


def _as_words(table: pl.DataFrame, wanted: list[str]) -> dict[str, list[str]]:
    """The columns as strings, "" where unknown: categories joined by commas, prices with two decimals."""
    found = {}
    for name in wanted:
        values = table[name].to_list()
        if name == "categories":
            found[name] = [", ".join(word for word in value or [] if word and word.strip()) for value in values]
        elif name == "price":
            found[name] = ["" if value is None else f"{value:.2f}" for value in values]
        else:
            # Whatever stands between words, line ends among it, is one blank.
            found[name] = [" ".join((value or "").split()) for value in values]
    return found
