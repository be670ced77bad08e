"""A knowledge graph whose items are entities: triples head, relation, tail, in the numbers of prepared data.

    data.knowledge.path=kg.txt data.knowledge.items=item_index2entity_id.txt

Entities get new numbers: 0 is the pad, 1..I are the items as recbench numbers them, whether or not any triple names them, and the others follow in
the order of their names. Copies of a triple are dropped. So are triples of entities that are items elsewhere but not in these data, because
a filter removed them or nobody met them; all of it is counted. Inverse relations are a model's matter.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recbench.core.errors import UserError
from recbench.data.beside import content_of, kept_arrays, named_files, read_columns
from recbench.data.impressions import beside_values
from recbench.data.local_files import local_knowledge
from recbench.data.schema import DataConfig, RawKnowledge
from recbench.data.sources import lookup
from recbench.data.sources.raw_lines import BadRows, shown

if TYPE_CHECKING:
    import polars as pl

    from recbench.data.prepared import PreparedData

log = logging.getLogger(__name__)

#: Raised whenever the same files would give another graph.
KNOWLEDGE_VERSION = 1
COUNTS = (
    "triples_read",
    "copies",
    "triples_of_unknown_items",
    "links_of_unknown_items",
    "items_without_triple",
    "triples",
    "rows_rejected",
)


@dataclass(frozen=True)
class Knowledge:
    """triples int32 [K, 3]: head, relation, tail · n_entities: rows of a table of entities, the pad's among them · n_relations: P, numbered from 0 ·
    relations, entities: names by number, the pad's empty · counts: what was read and left out."""

    triples: np.ndarray
    n_entities: int
    n_relations: int
    entities: list[str]
    relations: list[str]
    counts: dict[str, int]


def has_knowledge(config: DataConfig) -> bool:
    """Whether these data have a knowledge graph."""
    return bool(config.knowledge.path) or "knowledge" in lookup(config.name).beside


def knowledge_key(config: DataConfig, cache_dir: Path) -> dict[str, Any]:
    """All that decides the graph besides the items: part of the key of every run that reads it. Raises UserError for a file that is not there."""
    config = local_knowledge(config, cache_dir)
    asked = config.knowledge
    parts: dict[str, Any] = {"version": KNOWLEDGE_VERSION, "rewire": asked.rewire}
    if not asked.path:
        return {**parts, "made_by": beside_values(config)}
    return {
        **parts,
        "triples": content_of(named_files(asked.path, config, "data.knowledge.path"), cache_dir),
        "items": content_of(named_files(asked.items, config, "data.knowledge.items"), cache_dir)
        if asked.items
        else None,
        "how": [asked.header, asked.separator, asked.encoding, config.bad_rows],
    }


def knowledge(data: PreparedData, config: DataConfig, cache_dir: Path) -> Knowledge:
    """The graph of prepared data or of a view of them.

    Raises UserError for files that cannot be used, and where no triple names an item of the data.
    """
    asked = {**knowledge_key(config, cache_dir), "rewire": None}
    found = kept_arrays(data, "knowledge", asked, lambda: _numbered(data, _read(local_knowledge(config, cache_dir))))
    triples = found["triples"]
    if config.knowledge.rewire is not None:
        triples = rewired(triples, config.knowledge.rewire)
    counts = dict(zip(COUNTS, found["counts"].tolist(), strict=True))
    entities, relations = found["entities"].tolist(), found["relations"].tolist()
    return Knowledge(triples, len(entities), len(relations), entities, relations, counts)


def rewired(triples: np.ndarray, seed: int) -> np.ndarray:
    """The triples with the tails of each relation dealt out anew: heads and tails keep how many triples of a relation they are in."""
    generator, out = np.random.default_rng(seed), triples.copy()
    for relation in np.unique(triples[:, 1]):
        rows = np.flatnonzero(triples[:, 1] == relation)
        out[rows, 2] = triples[generator.permutation(rows), 2]
    return out


def _read(config: DataConfig) -> RawKnowledge:
    """As strings, from the files or from the source."""
    asked = config.knowledge
    if not asked.path:
        make = lookup(config.name).beside.get("knowledge")
        if make is None:
            raise UserError(
                f"data={config.name} has no knowledge graph; name its triples with data.knowledge.path=FILE"
            )
        return make(config)
    import polars as pl

    how, bad = (asked.separator, asked.header, asked.encoding), BadRows(config.bad_rows)
    files = named_files(asked.path, config, "data.knowledge.path")
    triples = read_columns(files, 3, how, bad, "data.knowledge.path").rename(
        {"0": "head", "1": "relation", "2": "tail"}
    )
    if asked.items:
        files = named_files(asked.items, config, "data.knowledge.items")
        links = read_columns(files, 2, how, bad, "data.knowledge.items").rename({"0": "item", "1": "entity"})
    else:
        links = triples.select(entity=pl.concat_list("head", "tail").explode().unique()).with_columns(item="entity")
    if bad.total:
        log.warning("knowledge: rows dropped: %s; first: %s", f"{bad.total:,}", bad.first)
    return RawKnowledge(triples, links, {"rows_rejected": bad.total})


def _numbered(data: PreparedData, raw: RawKnowledge) -> dict[str, np.ndarray]:
    """As arrays. Without links of their own, entities that are no item of the data are entities like any other."""
    import polars as pl

    items = data.item_table().select(item="item", number=pl.col("item_id").cast(pl.Int32))
    links = _one_to_one(raw.links)
    known = links.join(items, on="item")
    same_names = bool((links["item"] == links["entity"]).all())
    unknown = links.filter(~pl.col("item").is_in(items["item"].implode()))["entity"].implode()
    unknown = pl.Series([[]], dtype=pl.List(pl.String)) if same_names else unknown
    triples = raw.triples.unique(maintain_order=True)
    ends = pl.concat([triples["head"], triples["tail"]])
    if not known.filter(pl.col("entity").is_in(ends.implode())).height:
        raise UserError(
            f"data.knowledge: no triple names an item of the data; its first entity is {shown(repr(ends[0]))}, the first item of the data "
            f"{shown(repr(items['item'][0]))}; data.knowledge.items=FILE says which entity an item is"
        )
    of_unknown = pl.col("head").is_in(unknown) | pl.col("tail").is_in(unknown)
    kept = triples.filter(~of_unknown)
    others = pl.concat([kept["head"], kept["tail"]]).unique().sort()
    others = others.filter(~others.is_in(known["entity"].implode()))
    number = pl.DataFrame(
        {
            "entity": pl.concat([known["entity"], others]),
            "number": pl.concat(
                [known["number"], pl.Series(np.arange(len(others), dtype=np.int32) + data.n_items + 1)]
            ),
        }
    )
    relations = kept["relation"].unique().sort()
    relation = pl.DataFrame({"relation": relations, "place": np.arange(len(relations), dtype=np.int32)})
    coded = (
        kept.join(number.rename({"number": "h"}), left_on="head", right_on="entity", how="left", maintain_order="left")
        .join(number.rename({"number": "t"}), left_on="tail", right_on="entity", how="left", maintain_order="left")
        .join(relation, on="relation", how="left", maintain_order="left")
        .select("h", "place", "t")
        .to_numpy()
    )
    in_triples = np.zeros(data.n_items + 1 + len(others), bool)
    in_triples[coded[:, [0, 2]].ravel()] = True
    without = data.n_items - int(in_triples[1 : data.n_items + 1].sum())
    counts = {
        "triples_read": raw.triples.height,
        "copies": raw.triples.height - triples.height,
        "triples_of_unknown_items": triples.height - kept.height,
        "links_of_unknown_items": 0 if same_names else links.height - known.height,
        "items_without_triple": without,
        "triples": kept.height,
        "rows_rejected": raw.counts.get("rows_rejected", 0),
    }
    log.info(
        "knowledge: %s triples of %s relations; %s of %s items are in one; left out: %s triples of items that the data do not have, %s copies",
        *(f"{n:,}" for n in (kept.height, len(relations), data.n_items - without, data.n_items)),
        *(f"{counts[name]:,}" for name in ("triples_of_unknown_items", "copies")),
    )
    names = np.concatenate([[""], items.sort("number")["item"].to_numpy(), others.to_numpy()]).astype(str)
    return {
        "triples": coded.astype(np.int32),
        "entities": names,
        "relations": relations.to_numpy().astype(str),
        "counts": np.array([counts[name] for name in COUNTS], dtype=np.int64),
    }


def _one_to_one(links: pl.DataFrame) -> pl.DataFrame:
    """Raises UserError for an item that is two entities, and for an entity that is two items."""
    links = links.unique(maintain_order=True)
    for column, other in (("item", "entity"), ("entity", "item")):
        twice = links.filter(links[column].is_duplicated())
        if twice.height:
            pair = twice.filter(twice[column] == twice[column][0])[other].to_list()
            raise UserError(
                f"data.knowledge.items: the {column} {shown(repr(twice[column][0]))} stands with the {other} {shown(repr(pair[0]))} and with "
                f"{shown(repr(pair[1]))}; an item is one entity"
            )
    return links
