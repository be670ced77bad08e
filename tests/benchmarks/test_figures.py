"""What is read out of the lines of a system, and what makes a system's figures refused."""

import numpy as np
import pytest

from benchmarks.measure import check_data, figures
from benchmarks.rivals.one_negative import examples
from benchmarks.rivals.progress import Patience, Ranked, TimedLoader, whole_epoch
from benchmarks.task import SASRecTask


def lines_of(*evaluations, test_seconds=2.0, left_out=1.0):
    """A run that trains 10 s an epoch and has these validation NDCG@10 after its epochs, the test evaluated after each."""
    at, found = 5.0, [{"event": "ready", "at": 5.0}]
    for number, value in enumerate(evaluations, start=1):
        at += 10.0 + left_out
        found.append(
            {"event": "epoch", "at": at, "epoch": number, "steps": 4, "seconds": 10.0, "epoch_seconds": 10.0}
            | {"extrapolated": False, "left_out": left_out, "loss": 1.0}
        )
        for split, seconds in (("validation", 3.0), ("test", test_seconds)):
            at += seconds
            found.append(
                {"event": "evaluation", "at": at, "split": split, "seconds": seconds, "ndcg@10": value, "hr@10": value}
            )
    return [*found, {"event": "exit", "at": at, "peak_rss_bytes": 2**30, "others_share": 0.0}]


def test_time_to_a_bar_leaves_out_the_test_and_what_a_system_reports_as_such():
    found = figures(lines_of(0.01, 0.03, 0.05), reach=0.03)
    assert found.reach_training_seconds == 20.0
    # Start, two epochs, two validations; neither the first test nor the second preparation.
    assert found.reach_total_seconds == pytest.approx(5.0 + 2 * 10.0 + 2 * 3.0)
    assert not found.gave_up


def test_the_order_of_the_two_evaluations_does_not_matter():
    lines = lines_of(0.01, 0.03, test_seconds=3.0)
    swapped = []
    for line in lines:
        other = {"validation": "test", "test": "validation"}.get(line.get("split"))
        swapped.append({**line, "split": other} if other else line)
    assert figures(swapped, reach=0.03).reach_total_seconds == figures(lines, reach=0.03).reach_total_seconds


def test_a_system_that_stops_short_of_the_bar_gives_a_lower_bound():
    found = figures(lines_of(0.01, 0.02), reach=0.03)
    assert found.gave_up
    assert found.reach_training_seconds == 20.0
    assert found.reach_total_seconds == pytest.approx(31.0)


def test_without_a_bar_there_is_no_time_to_it():
    found = figures(lines_of(0.01))
    assert (found.reach_training_seconds, found.reach_total_seconds, found.gave_up) == (None, None, False)


EXPECTED = {"n_users": 3, "n_items": 9, "training_targets": 20, "test_cases": 3, "test_digest": "aa"}


def test_the_same_data_pass_and_what_is_named_as_left_out_is_counted():
    check_data([{"event": "data", **EXPECTED}], EXPECTED, "x")
    cut = {"training_targets": 18, "targets_left_out": 2, "n_items": 8, "unknown_items": 1}
    check_data([{"event": "data", **EXPECTED, **cut}], EXPECTED, "x")


@pytest.mark.parametrize("change", [{"training_targets": 18}, {"test_digest": "bb"}, {"n_items": 8}, {"n_users": 4}])
def test_other_data_are_refused(change):
    with pytest.raises(RuntimeError, match="did not work on the same data"):
        check_data([{"event": "data", **EXPECTED, **change}], EXPECTED, "x")


def test_a_system_that_does_not_say_what_it_trained_on_is_refused():
    given = {key: value for key, value in EXPECTED.items() if key != "training_targets"}
    with pytest.raises(RuntimeError, match="training_targets"):
        check_data([{"event": "data", **given}], EXPECTED, "x")


def test_a_cut_epoch_is_extrapolated_from_its_later_steps():
    # Two slow steps, then one second each: 100 rows at 10 a step are 10 seconds.
    assert whole_epoch([0.0, 5.0, 9.0, 10.0, 11.0, 12.0], rows_a_step=10, rows=100) == pytest.approx(10.0)
    assert whole_epoch([0.0, 5.0], rows_a_step=10, rows=100) == pytest.approx(50.0)


def test_a_timed_loader_stops_early_and_marks_every_step():
    loader = TimedLoader([1, 2, 3, 4], max_steps=3)
    assert list(loader) == [1, 2, 3]
    assert len(loader.marks) == 4
    assert len(list(TimedLoader([1, 2], max_steps=0))) == 2


def test_patience_ends_at_the_bar_or_with_the_time():
    found = {"validation": Ranked(0.03, 1.0), "test": Ranked(0.01, 0.0)}
    assert Patience(SASRecTask(reach=0.03)).ends(found)
    assert not Patience(SASRecTask(reach=0.04)).ends(found)
    assert not Patience(SASRecTask(reach=0.03, reach_split="test")).ends(found)
    assert Patience(SASRecTask(reach=0.04, give_up=1e-9)).ends(found)
    assert not Patience(SASRecTask()).ends(found)


def test_the_test_part_does_not_use_patience_up():
    patience = Patience(SASRecTask(reach=0.04, give_up=1e-9))
    assert not patience.ends({"validation": Ranked(0.03, 1.0), "test": Ranked(0.01, 1000.0)})


def test_samplers_pair_each_event_with_its_successor_and_an_item_that_is_none_of_the_users():
    class Enough(Exception):
        pass

    class Queue(list):
        def put(self, rows):
            self.append(rows)
            if len(self) == 3:
                raise Enough

    histories, taken = [[5, 6, 7], [1, 2, 3, 4, 8, 9]], Queue()
    with pytest.raises(Enough):
        examples(histories, n_items=12, batch=4, max_length=3, seed=1, out=taken)
    for items, targets, negatives in np.concatenate(taken, axis=1).transpose(1, 0, 2):
        real = targets != 0
        assert (real == (items != 0)).all()
        assert real[-1]  # padded on the left
        history = histories[0] if targets[-1] == 7 else histories[1]
        n = min(len(history) - 1, 3)
        assert real.sum() == n
        assert items[real].tolist() == history[-1 - n : -1]
        assert targets[real].tolist() == history[-n:]
        assert not set(negatives[real].tolist()) & set(history)
        assert (negatives[real] > 0).all()
