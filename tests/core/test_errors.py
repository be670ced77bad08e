"""Hints that find the right name whatever its case, and a lack of memory as one line."""

from __future__ import annotations

import errno
import signal

import numpy as np
import pytest
import torch

from recbench.core.errors import closest, memory_error, nearest
from recbench.core.other_names import OTHER_NAMES
from recbench.core.stops import Stopped, exit_status_of, reason_of


@pytest.mark.parametrize(
    ("word", "known", "found"),
    [
        ("GRU4Rec", ["sasrec", "gru4rec"], "gru4rec"),
        ("BERT4REC", ["bert4rec", "e4srec"], "bert4rec"),
        ("sasrec-original", ["sasrec", "sasrec_original"], "sasrec_original"),
        ("toys_and_games", ["Toys_and_Games", "Beauty"], "Toys_and_Games"),
        ("max_seq_len", ["max_length", "max_epochs"], "max_length"),
        ("dropout_prob", ["hidden_size", "dropout"], "dropout"),
        ("ml-1m", ["amazon", "movielens"], "movielens"),
        ("LOO", ["temporal", "leave_one_out"], "leave_one_out"),
        ("qqqq", ["sasrec"], None),
    ],
)
def test_the_nearest_name_whatever_the_case_and_the_tool_it_is_of(word, known, found):
    assert closest(word, known) == found
    assert (f"did you mean '{found}'?" in nearest(word, known)) == (found is not None)


def test_a_name_that_is_ours_is_not_taken_for_another():
    assert closest("none", ["none", "off"]) == "none"
    assert all(ours for ours in OTHER_NAMES.values())


def _raised(call):
    with pytest.raises(Exception) as error:
        call()
    return error.value


def test_a_real_failed_allocation_is_known():
    for call in (lambda: torch.empty(2**60), lambda: np.ones(2**59)):
        told = memory_error(_raised(call), "sasrec-1")
        assert told is not None
        assert "not enough memory on this machine for another " in str(told)
        assert ", in sasrec-1: lower training.batch_size" in str(told)
        assert "\n" not in str(told)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total"),
            ["the GPU", "2.50 GiB"],
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), ["the GPU"]),
        (RuntimeError("std::bad_alloc"), ["this machine"]),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), ["this machine"]),
        (MemoryError(), ["this machine"]),
    ],
)
def test_every_way_to_run_short_of_memory(error, words):
    told = str(memory_error(error))
    assert [word for word in words if word not in told] == []


@pytest.mark.parametrize(
    "error", [RuntimeError("size mismatch"), ValueError("out of memory"), OSError(errno.ENOENT, "gone")]
)
def test_other_errors_are_not(error):
    assert memory_error(error) is None


def test_what_stopped_it():
    assert (reason_of(Stopped(signal.SIGHUP)), exit_status_of(Stopped(signal.SIGHUP))) == ("stopped by SIGHUP", 129)
    assert (reason_of(KeyboardInterrupt()), exit_status_of(KeyboardInterrupt())) == ("stopped from the keyboard", 130)
