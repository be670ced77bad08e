"""The page: whole, alone, safe, and the same for keyboard and mouse."""

from __future__ import annotations

import csv
import re
import time
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from recbench.cli.report import main
from recbench.core.errors import UserError
from recbench.report.build import folder_material, write_report

SCRIPT = "<script>alert(1)</script>"


def write(folders, out, filters=None, **choices):
    chosen = {"metric": None, "reference": None, "cache_dir": None, **choices}
    return write_report(folder_material(folders.path, filters or {}, *chosen.values()), out, resamples=200).read_text()


class Reader(HTMLParser):
    """Tags with their attributes, and the headings' levels."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


@pytest.fixture(scope="module")
def page(make_folders, tmp_path_factory):
    """(text of a page on two models and popularity, its folder)."""
    home = tmp_path_factory.mktemp("page")
    made = make_folders(home / "runs")
    made.add("a-1")
    for seed in (1, 2):
        made.add(f"b-{seed}", 0.6, seed, config={"model": {"name": "b"}, "cache_dir": "/secret/place"})
    made.add("popularity-1", 0.0, config={"model": {"name": "popularity"}})
    return write(made, home / "out"), home / "out"


def test_the_page_needs_no_network(page):
    text, out = page
    tags = Reader(text).tags
    links = [
        value
        for _, attributes in tags
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "action", "data")
    ]
    beside = {link for link in links if not link.startswith("#")}
    assert beside == {"leaderboard.csv", "runs.csv", "report.tex", "report.md"}
    assert all((out / name).is_file() for name in beside)
    anchors = {attributes["id"] for _, attributes in tags if "id" in attributes}
    assert {link[1:] for link in links if link.startswith("#")} <= anchors
    assert not {tag for tag, _ in tags} & {"link", "img", "iframe", "object", "embed", "base"}
    assert not re.search(r"url\((?!#)|@import|https?://", text)
    assert "default-src 'none'" in text


def test_the_headline_comes_before_everything_else(page):
    text, out = page
    first = text.index('<p class="headline">')
    assert text.index("<h1>") < first < text.index("<nav")
    sentence = re.search(r'<p class="headline">(.*?)</p>', text)[1]
    assert sentence.startswith("b is best: its ndcg@10 is ")
    assert "the floor popularity" in sentence
    assert sentence in (out / "report.md").read_text()


def test_without_the_script_every_row_and_column_is_there(page):
    """What the script hides and adds is not in the page itself."""
    text = re.sub(r"<script>.*?</script>", "", page[0], flags=re.DOTALL)
    tags = Reader(text).tags
    assert not [tag for tag, attributes in tags if "hidden" in attributes]
    assert not {tag for tag, _ in tags} & {"button"}
    assert not [attributes for tag, attributes in tags if tag == "input" and attributes["type"] != "radio"]
    assert [attributes for tag, attributes in tags if tag == "th" and "data-extra" in attributes]


def test_each_run_is_linked_to_its_config_without_the_places_of_a_machine(page):
    text, _ = page
    anchor = re.search(r'<a href="#(config\d+)">b-2</a>', text)[1]
    config = re.search(rf'<pre id="{anchor}">(.*?)</pre>', text, re.DOTALL)[1]
    assert "name: b\n" in config
    assert "seed:\n- 1\n- 2" in config
    assert "/secret/place" not in text


def test_hostile_names_are_text(folders, tmp_path):
    key = "x<img src=x onerror=alert(1)>"
    folders.add(key, config={"model": {"name": f"m{SCRIPT}"}})
    folders.broken("bad-1", "failed", f"Error: {SCRIPT}", model='"><b>')
    text = write(folders, tmp_path / "out", metric="hr@10")
    assert SCRIPT not in text
    assert "onerror" not in re.sub(r"x&lt;img src=x onerror", "", text)
    assert [tag for tag, _ in Reader(text).tags].count("script") == 1
    markdown = (tmp_path / "out" / "report.md").read_text()
    assert "<script" not in markdown
    assert "<img" not in markdown


def test_headings_captions_and_text_alternatives(page):
    text, _ = page
    tags = Reader(text).tags
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    names = [tag for tag, _ in tags]
    assert names.count("table") == names.count("caption") >= 3
    drawings = [attributes for tag, attributes in tags if tag == "svg"]
    assert drawings
    assert all(a.get("aria-hidden") == "true" or (a.get("role") == "img" and a.get("aria-label")) for a in drawings)
    assert all("tabindex" in a and a.get("aria-label") for _, a in tags if a.get("class") == "scroll")
    assert dict(tags[0][1])["lang"] == "en"
    ids = [a["id"] for _, a in tags if "id" in a]
    assert len(ids) == len(set(ids))


def test_failures_and_provenance_are_told(folders, tmp_path):
    folders.add("a-1")
    folders.broken("b-1", "failed", "ScoreError: NaN for user 7")
    folders.broken("c-1", "interrupted", "stopped from the keyboard")
    folders.broken("d-1", "stopped", "given up at epoch 3")
    folders.broken("e-1", "running")
    (folders.add("f-1") / "metrics.json").write_text("{")
    write(folders, tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    failures, provenance = text.split("## Runs without a result")[1].split("## Where each run comes from")
    for said in (
        "NaN for user 7",
        "stopped from the keyboard",
        "given up at epoch 3",
        "killed before it could say why",
        "half-written",
    ):
        assert said in failures
    assert "c0ffeec0ff" in provenance
    assert "torch 2.13.0" in provenance
    assert "leak: 90.0%" in text
    with (tmp_path / "out" / "runs.csv").open() as file:
        assert {line["key"]: line["state"] for line in csv.DictReader(file)} == {
            "a-1": "finished", "b-1": "failed", "c-1": "interrupted", "d-1": "stopped", "e-1": "running", "f-1": "half-written",
        }  # fmt: skip


def test_runs_of_older_versions_are_reported_too(folders, tmp_path):
    """Without oracle, audit, costs, versions, compression, and without a history."""
    path = folders.add("a-1")
    (path / "metrics.json").write_text('{"test/ndcg@5": 0.1, "test/hr@5": 0.2, "protocol": "p"}')
    (path / "provenance.json").write_text('{"seed": 1}')
    (path / "history.jsonl").unlink()
    text = write(folders, tmp_path / "out")
    assert "ndcg@5" in text


def test_nothing_finished_is_one_line(folders, tmp_path, capsys):
    folders.broken("b-1", "failed", "no")
    assert main([f"runs_dir={folders.path}", f"out={tmp_path / 'out'}"]) == 2
    assert (
        capsys.readouterr().err
        == "error: runs: no run is finished (they are failed); a report needs at least one finished run\n"
    )
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_one_line(folders, tmp_path):
    folders.add("a-1")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another folder with out=PATH"):
        write(folders, tmp_path / "file" / "out")


def test_no_cell_of_a_csv_is_a_formula(folders, tmp_path):
    folders.add("a-1", config={"model": {"name": "=cmd|'/c calc'!A0"}})
    write(folders, tmp_path / "out")
    for name in ("leaderboard.csv", "runs.csv"):
        with (tmp_path / "out" / name).open() as file:
            assert not [cell for line in csv.reader(file) for cell in line if cell.startswith(("=", "+", "@"))]


@pytest.mark.slow
def test_a_hundred_runs_take_less_than_twenty_seconds(folders, tmp_path):
    for model in range(20):
        for seed in range(5):
            config = {"model": {"hidden_size": 8 * (model + 1)}}
            folders.add(f"m{model}-{seed}", 0.03 * model, seed, n_users=22_363, n_epochs=40, config=config)
    started = time.process_time()
    assert main([f"runs_dir={folders.path}", f"out={tmp_path / 'out'}", "tracking=off"]) == 0
    assert time.process_time() - started < 20
