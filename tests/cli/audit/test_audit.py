"""The command: every protocol, data without a clock, what is written and where, what is refused."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from recbench.cli.audit.command import main
from recbench.cli.audit.findings import findings
from recbench.cli.audit.page import html, markdown


@pytest.fixture
def audit(tiny, tmp_path, monkeypatch, capsys):
    """audit("protocol=...") -> (status, audit.json as values, folder, what was said)."""
    monkeypatch.chdir(tmp_path)

    def run(*words, data=None, probe=()):
        status = main([*(data or tiny), *words, f"out={tmp_path / 'page'}", *probe])
        path = tmp_path / "page" / "audit.json"
        said = capsys.readouterr()
        return status, json.loads(path.read_text()) if path.is_file() else None, path.parent, said.out + said.err

    return run


@pytest.mark.parametrize(
    ("protocol", "metric"),
    [
        (["protocol=leave_one_out"], "ndcg@10"),
        (["protocol=temporal", "protocol.target=successive"], "ndcg@10"),
        (["protocol=temporal", "protocol.target=all"], "ndcg@10"),
        (["protocol=sampled_999", "protocol.n_candidates=20"], "sampled20_ndcg@10"),
        (["protocol=sessions"], "ndcg@10"),
    ],
)
def test_every_protocol_has_an_audit(audit, protocol, metric):
    status, found, folder, said = audit(*protocol)
    assert status == 0, said
    assert found["floor_metric"] == found["probes"][0]["metric"] == metric
    assert [floor["model"] for floor in found["floors"]] == ["popularity", "recent_popularity"]
    assert all(0 < floor["metrics"][metric] < 1 for floor in found["floors"])
    assert found["probes"][0]["relative"] < 0
    for part in ("split", "time", "cold", "repeats"):
        shares = [value for value in found[part].values() if isinstance(value, float)]
        assert all(0 <= share <= 1 for share in shares)
    for finding in found["findings"]:
        assert finding["text"] in said
    assert found["protocol"] in (folder / "audit.md").read_text()


class Tags(HTMLParser):
    """Checks that what is opened is closed, and keeps the text."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.links = [], "", []

    def handle_starttag(self, tag, attributes):
        if tag != "meta":
            self.open.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_data_without_a_clock(audit, tmp_path):
    rows = [(f"u{u}", f"i{(3 * u + 2 * n) % 12}") for u in range(40) for n in range(8)]
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "events.csv").write_text("user,item\n" + "".join(f"{user},{item}\n" for user, item in rows))
    data = ["data=table", f"data.raw_dir={raw}", "data.path=events.csv", "data.k_core=0", "data.columns.timestamp=null"]
    status, found, folder, said = audit("hardware=cpu", "tracking=off", data=data)
    assert status == 0, said
    assert found["time"] == {}
    assert "needs timestamps" in found["floors"][1]["absent"]
    assert any(f["level"] == "beware" and "no timestamps" in f["text"] for f in found["findings"])
    page = Tags()
    page.feed((folder / "audit.html").read_text())
    assert page.open == []
    assert page.links == []
    assert found["timeline"] == {}
    assert sum(found["lengths"]["cases"]) == found["split"]["test_cases"]
    assert "How long the histories of the test are" in page.text
    (entry,) = found["data"]["raw_files"].values()
    assert re.fullmatch(r"[0-9a-f]{64}", entry["sha256"])
    assert entry["sha256"] in page.text
    assert str(tmp_path) not in (folder / "audit.json").read_text()


def test_times_are_dates_and_the_chart_counts_every_event_once(audit):
    _, found, folder, _ = audit("protocol=temporal")
    line, text = found["timeline"], (folder / "audit.md").read_text()
    assert sum(line["training"]) == found["split"]["training_events"]
    assert sum(line["test"]) == found["split"]["test_targets"]
    assert [datetime.fromisoformat(edge) for edge in line["edges"]] == sorted(
        map(datetime.fromisoformat, line["edges"])
    )
    start = re.search(r"test starts at \| ([-\d: UTC]+) \|", text)
    assert start
    assert (
        datetime.fromisoformat(start[1].removesuffix(" UTC")).replace(tzinfo=UTC).timestamp()
        == found["split"]["test_cut"]
    )
    assert "test_cut" not in text
    assert str(found["split"]["test_cut"]) not in text.replace(",", "")
    page = (folder / "audit.html").read_text()
    assert "When training and test happened" in page
    assert page.count("<svg") == 1
    assert not re.search(r"https?://|url\((?!#)", page)


def test_names_from_outside_are_text_on_both_pages(audit):
    _, found, _, _ = audit()
    found["data"]["raw_files"] = {"<b>|&.csv": {"size": 1, "sha256": "ab"}}
    page = Tags()
    page.feed(html(found))
    assert "<b>|&.csv" in page.text
    assert "| <b>\\|&.csv | 1 | ab |" in markdown(found)


def test_it_lies_with_the_data_unless_told_otherwise_and_finds_its_runs_again(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(tiny) == 0
    files = [line for line in capsys.readouterr().out.splitlines() if line.startswith("/")]
    assert [name.rsplit("/", 1)[1] for name in files] == ["audit.json", "audit.md", "audit.html"]
    assert all("/prepared/synthetic-" in name and "/audit/leave_one_out-full-mask-v1/" in name for name in files)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/weights.safetensors")}
    assert {path.parent.name.split("-")[0] for path in stamps} == {"popularity", "recent_popularity", "markov"}
    assert main(tiny) == 0
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/weights.safetensors")}


def test_a_trained_probe_takes_its_keys_and_several_stand_together(audit):
    probe = ["--probe", "sasrec", "--probe", "itemknn"]
    status, found, _, said = audit("training.max_epochs=2", "model.hidden_size=16", probe=["--probe", "sasrec"])
    assert status == 0, said
    assert [p["model"] for p in found["probes"]] == ["sasrec"]
    status, found, _, said = audit("training.max_epochs=2", probe=probe)
    assert status == 0, said
    assert [p["model"] for p in found["probes"]] == ["sasrec", "itemknn"]
    assert any("itemknn reads no order" in f["text"] for f in found["findings"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=sasrec"], "choose the probe with --probe"),
        (["nonsense"], "cannot read 'nonsense'"),
        (["--probe", "sasrek"], "sasrec"),
        (["--probe", "rq_kmeans"], "ranks nothing"),
        (["data=amazn"], "did you mean 'amazon'"),
        (["protocol.cut=3"], "unknown key 'protocol.cut'"),
        (["--what"], "--what"),
        (["out=taken/below"], "choose another folder with out="),
    ],
)
def test_wrong_use_is_one_line_and_status_2(tiny, words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("a file")
    base = [word for word in tiny if not (words[0].startswith("data=") and word.startswith("data"))]
    assert main([*base, *words]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]


def grave(**changed):
    """The levels of findings on a faultless audit with some figures changed."""
    split = {
        "leaked_targets": 0.0,
        "later_training": 0.0,
        "tied_targets": 0.0,
        "cold_targets": 0.0,
        "repeated_targets": 0.0,
        "test_targets": changed.get("test_targets", 9_000),
        "users_without_case": 0,
    }
    probe = {"model": "markov", "metric": "ndcg@10", "relative": -0.3, "low": -0.4, "high": -0.2, "unchanged": 0.1}
    found = {
        "split": {name: changed.get(name, value) for name, value in split.items()},
        "time": {"whole_days": changed.get("whole_days", 0.0)},
        "seen_items": changed.get("seen_items", "mask"),
        "cold": {"cold_users": changed.get("cold_users", 0.0), "blind_cases": changed.get("blind_cases", 0.0)},
        "cases": {"popular_targets": changed.get("popular_targets", 0.0), "beyond_length": 0.0, "max_length": 50},
        "data": {"n_users": 10_000},
        "probes": [{name: changed.get(name, value) for name, value in probe.items()}],
        "floors": [],
        "floor_metric": "ndcg@10",
    }
    return [finding.text for finding in findings(found) if finding.level == "beware"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, None),
        ({"leaked_targets": 0.5}, "training knows the future"),
        ({"tied_targets": 0.4}, "their order is that of the file"),
        ({"whole_days": 1.0}, "whole days"),
        ({"cold_targets": 0.2}, "never occur in training"),
        ({"repeated_targets": 0.2}, "cannot be hit"),
        ({"repeated_targets": 0.2, "seen_items": "keep"}, None),
        ({"relative": -0.02, "high": -0.01}, "order matters little"),
        ({"high": 0.01}, "may be chance"),
        ({"unchanged": 1, "relative": 0.0}, "reads no order"),
        ({"relative": None}, "never hits"),
        ({"cold_users": 0.331}, "A third (33.1%) of the test users have no training event"),
        ({"blind_cases": 0.02}, "no history that training knows"),
        ({"popular_targets": 0.5}, "popularity alone goes far"),
        ({"test_targets": 226}, "The test is small: 226 targets"),
    ],
)
def test_what_is_told_as_a_warning(changed, said):
    warnings = grave(**changed)
    assert len(warnings) == (said is not None)
    assert said is None or said in warnings[0]


def test_the_gravest_warning_comes_first():
    warnings = grave(tied_targets=0.06, cold_users=0.5, leaked_targets=0.2, test_targets=100)
    assert [text.split()[0] for text in warnings] == ["Half", "The", "A", "6.0%"]
