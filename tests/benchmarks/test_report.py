"""The tables of a comparison, and the record from which one that was stopped goes on."""

import re

import pytest

from benchmarks.record import Record
from benchmarks.report import Value, section, spread

MACHINE = {"event": "machine", "python": "3.11.7", "versions": {"torch": "2.13"}, "processor": "P", "cores": 2}
MACHINE |= {"threads": 2, "memory_bytes": 2**34, "allocator": "libc"}


def run_of(seconds, ndcg=(0.01,), others=0.0, extrapolated=False, **data):
    """The lines of a run whose epochs and evaluations take so long."""
    at, lines = 0.0, [MACHINE, {"event": "data", "training_targets": 10, **data}, {"event": "ready", "at": 1.0}]
    for number, value in enumerate(ndcg, start=1):
        at += seconds
        epoch = {"event": "epoch", "at": at, "epoch": number, "steps": 5, "steps_of_epoch": 9, "seconds": seconds}
        lines.append({**epoch, "epoch_seconds": seconds, "extrapolated": extrapolated, "loss": 1.0})
        for split in ("validation", "test"):
            lines.append(
                {"event": "evaluation", "at": at, "split": split, "seconds": 0.0, "ndcg@10": value, "hr@10": value}
            )
            lines[-1]["seconds"] = seconds / 2
    return [*lines, {"event": "exit", "at": at, "peak_rss_bytes": 2**30, "others_share": others}]


def floor_of(seconds):
    speeds = dict.fromkeys(
        ("product_fp32", "product_bf16", "logits_fp32", "logits_bf16", "softmax_fp32", "softmax_bf16", "copy"), 1e9
    )
    work = {"network_flop": 1e9, "logits_flop": 2e9, "logits": 1e8, "bytes": 1e9}
    floor = {"event": "floor", "work": work, "speeds": speeds, "precision": "bf16"}
    return [
        MACHINE,
        {**floor, "seconds": {"fp32": 2 * seconds, "bf16": seconds, "as_shaped": seconds}},
        {"event": "exit", "at": 1.0, "peak_rss_bytes": 1, "others_share": 0.0},
    ]


def test_ratios_are_taken_within_a_round():
    rounds = [{"recbole": run_of(10.0), "ours": run_of(1.0)}, {"recbole": run_of(40.0), "ours": run_of(2.0)}]
    text = section("## head", rounds, [], 0.0, "validation")
    (row,) = [line for line in text.splitlines() if line.startswith("| RecBole 1.2.1 |")]
    # 10 and 20 times; of the medians 25 s and 1.5 s it would be 16.7.
    assert "25.00 s [10.00 .. 40.00], **15.0x [10.0 .. 20.0]**" in row


def test_a_system_that_gave_up_is_a_lower_bound():
    quality = [{"ours": run_of(1.0, (0.01, 0.05)), "recbole": run_of(30.0, (0.01, 0.02, 0.03))}]
    text = section("## head", [], quality, 0.04, "validation")
    (row,) = [line for line in text.splitlines() if line.startswith("| RecBole")]
    assert re.search(r"\| > 90\.0 s, \*\*> 45\.0x\*\* \|", row)
    (own,) = [line for line in text.splitlines() if line.startswith("| recbench")]
    assert "| 2.0 s |" in own


def test_our_epoch_is_set_against_the_floor_of_its_round():
    rounds = [{"ours": run_of(3.0), "floor": floor_of(2.0)}, {"ours": run_of(8.0), "floor": floor_of(4.0)}]
    text = section("## head", rounds, [], 0.0, "validation")
    assert "| logits in bfloat16, ours | 3.00 s [2.00 .. 4.00] | 1.75x [1.50 .. 2.00] |" in text


def test_what_makes_a_figure_less_than_it_seems_is_said():
    cut = run_of(1.0, extrapolated=True, targets_left_out=7, unknown_items=3)
    text = section("## head", [{"rectools": cut, "ours": run_of(1.0, others=0.3)}], [], 0.0, "validation")
    assert "RecTools 0.19: epoch extrapolated from 5 of its 9 steps" in text
    assert "cuts 7 off long histories" in text
    assert "does not know 3 items" in text
    assert "Do not quote: other processes took up to 30%" in text


def test_a_round_that_was_torn_is_said_to_be():
    rounds = [{"recbole": run_of(1.0), "ours": run_of(1.0)}]
    rounds[0]["recbole"][-1]["began"], rounds[0]["ours"][-1]["began"] = 1e9, 1e9 + 600
    assert "torn" not in section("## head", rounds, [], 0.0, "validation")
    rounds[0]["ours"][-1]["began"] = 1e9 + 7200
    assert "began up to 2.0 hours apart" in section("## head", rounds, [], 0.0, "validation")


def test_a_quiet_whole_run_has_no_remarks():
    text = section("## head", [{"ours": run_of(1.0)}], [], 0.0, "validation")
    assert "Do not quote" not in text
    assert "extrapolated" not in text


def test_spread_names_the_range_only_where_there_is_one():
    assert spread([Value(2.0)], "x", 1) == "2.0x"
    assert spread([Value(1.0), Value(9.0), Value(2.0)], "x", 0) == "2x [1 .. 9]"
    assert spread([Value(2000.0, at_least=True)], " s", 0) == "> 2,000 s"
    assert spread([], "x", 1) == ""


def test_a_record_goes_on_and_refuses_another_plan(tmp_path):
    record = Record(tmp_path)
    record.hold({"commit": "a", "rounds": 1})
    record.hold({"commit": "a", "rounds": 1})
    with pytest.raises(SystemExit, match="another commit"):
        record.hold({"commit": "b", "rounds": 1})
    assert record.read("speed", 2, "recbole+tcmalloc") is None
    record.write("speed", 2, "recbole+tcmalloc", [{"event": "end"}])
    assert record.read("speed", 2, "recbole+tcmalloc") == [{"event": "end"}]
    assert record.rounds("speed", ["ours", "recbole+tcmalloc"]) == [{"recbole+tcmalloc": [{"event": "end"}]}]
