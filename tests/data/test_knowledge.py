"""Triples in the numbers of the data: whose entity is whose, what is left out, and the control that says other things of each item."""

import numpy as np
import polars as pl
import pytest

from recbench.core.errors import UserError
from recbench.data.beside_config import KnowledgeConfig
from recbench.data.knowledge import knowledge, knowledge_key, rewired
from recbench.data.prepared import PreparedData
from recbench.data.sources.synthetic_config import SyntheticConfig
from recbench.data.sources.table_config import TableConfig
from recbench.data.store import prepare

TRIPLES = [
    ("10", "genre", "90"),
    ("11", "genre", "90"),
    ("12", "genre", "91"),
    ("10", "genre", "90"),
    ("90", "part_of", "95"),
    ("13", "genre", "91"),
    ("11", "by", "12"),
]
#: Items a, b, c of the data are the entities 10, 11, 12; the item gone, of which they have no event, is 13.
LINKS = [("b", "11"), ("a", "10"), ("gone", "13"), ("c", "12")]


@pytest.fixture
def data(tmp_path):
    table = pl.DataFrame({"item": ["a", "b", "c", "d"]})
    return PreparedData.from_arrays(tmp_path / "data", np.array([1, 2, 3, 4]), np.array([0, 4]), item_table=table)


def write(path, rows, separator="\t"):
    path.write_text("".join(separator.join(row) + "\n" for row in rows))
    return str(path)


def config(tmp_path, triples=TRIPLES, links=LINKS, **keys):
    items = write(tmp_path / "items.txt", links) if links else None
    found = KnowledgeConfig(path=write(tmp_path / "kg.txt", triples), items=items, **keys)
    return TableConfig(path="events.csv", knowledge=found)


def test_items_come_first_under_their_own_numbers_and_what_is_left_out_is_counted(data, tmp_path):
    found = knowledge(data, config(tmp_path), tmp_path)
    assert found.entities == ["", "a", "b", "c", "d", "90", "91", "95"]
    assert found.relations == ["by", "genre", "part_of"]
    assert found.triples.tolist() == [[1, 1, 5], [2, 1, 5], [3, 1, 6], [5, 2, 7], [2, 0, 3]]
    assert (found.n_entities, found.n_relations) == (8, 3)
    assert found.counts == {
        "triples_read": 7,
        "copies": 1,
        "triples_of_unknown_items": 1,
        "links_of_unknown_items": 1,
        "items_without_triple": 1,
        "triples": 5,
        "rows_rejected": 0,
    }


@pytest.mark.parametrize("separator", [" ", ",", "\t"])
def test_other_separators_parquet_and_items_by_their_own_names(data, tmp_path, separator):
    named = [("a", "genre", "drama"), ("drama", "like", "b")]
    text = TableConfig(path="e.csv", knowledge=KnowledgeConfig(path=write(tmp_path / "kg.txt", named, separator)))
    found = knowledge(data, text, tmp_path)
    assert found.triples.tolist() == [[1, 0, 5], [5, 1, 2]]
    pl.DataFrame(named, schema=["h", "r", "t"], orient="row").write_parquet(tmp_path / "kg.parquet")
    stored = TableConfig(path="e.csv", knowledge=KnowledgeConfig(path=str(tmp_path / "kg.parquet")))
    assert np.array_equal(knowledge(data, stored, tmp_path).triples, found.triples)


def test_rewiring_keeps_every_degree_and_changes_what_is_said(tmp_path):
    small = SyntheticConfig(n_users=60, n_items=60, n_clusters=5)
    made = prepare(small, tmp_path)
    true = knowledge(made, small, tmp_path).triples
    false = rewired(true, 1)
    assert np.array_equal(false[:, :2], true[:, :2])
    assert np.array_equal(np.sort(false[:, 2]), np.sort(true[:, 2]))
    assert (false[:, 2] != true[:, 2]).mean() > 0.3
    assert np.array_equal(false, rewired(true, 1))
    small.knowledge = KnowledgeConfig(rewire=1)
    assert np.array_equal(knowledge(made, small, tmp_path).triples, false)
    assert knowledge_key(small, tmp_path) != knowledge_key(
        SyntheticConfig(n_users=60, n_items=60, n_clusters=5), tmp_path
    )


@pytest.mark.parametrize(
    ("triples", "links", "words"),
    [
        (
            [("1", "genre", "2")],
            None,
            r"no triple names an item of the data; its first entity is '1', the first item of the data 'a'; data\.",
        ),
        (TRIPLES, [*LINKS, ("a", "11")], r"the item 'a' stands with the entity '10' and with '11'"),
        (TRIPLES, [*LINKS, ("d", "10")], r"the entity '10' stands with the item 'a' and with 'd'"),
        ([("1", "2")], None, r"has 2 columns, and 3 are needed"),
        ([*TRIPLES, ("10", "", "5")], LINKS, r"kg\.txt line 8: an empty field; mend it, or set data\.bad_rows=skip"),
        ([*TRIPLES, ("10", "x")], LINKS, r"kg\.txt line 8: too few fields: 2, not 3"),
    ],
)
def test_mistakes_are_answered_with_their_place(data, tmp_path, triples, links, words):
    with pytest.raises(UserError, match=words):
        knowledge(data, config(tmp_path, triples, links), tmp_path)


def test_files_that_are_not_there_and_keys_that_contradict(data, tmp_path):
    absent = TableConfig(path="e.csv", knowledge=KnowledgeConfig(path=str(tmp_path / "none.txt")))
    with pytest.raises(UserError, match=r"data\.knowledge\.path: there is no file"):
        knowledge(data, absent, tmp_path)
    with pytest.raises(UserError, match=r"name the triples with data\.knowledge\.path"):
        TableConfig(path="e.csv", knowledge=KnowledgeConfig(items="items.txt")).validate()
    with pytest.raises(UserError, match=r"data=table has no knowledge graph"):
        knowledge(data, TableConfig(path="e.csv"), tmp_path)
