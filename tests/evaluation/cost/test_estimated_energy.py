"""CodeCarbon's estimate, where the extra is installed."""

from __future__ import annotations

import time

import pytest

from recbench.core.errors import UserError
from recbench.evaluation.cost import estimated_energy as module
from recbench.evaluation.cost.estimated_energy import check_package, estimated_energy


def test_nothing_is_estimated_unless_asked_for(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with estimated_energy(False) as figures:
        pass
    assert figures == {}
    with pytest.raises(UserError, match=r"recbench\[energy\]"):
        check_package()


@pytest.mark.services
def test_work_has_an_estimate_between_a_watt_and_a_kilowatt(tmp_path, monkeypatch):
    pytest.importorskip("codecarbon")
    monkeypatch.chdir(tmp_path)
    with estimated_energy(True) as figures:
        # Not before: the first import of CodeCarbon alone may take longer than what follows.
        started = time.perf_counter()
        while time.perf_counter() < started + 1.5:
            sum(range(10_000))
        seconds = time.perf_counter() - started
    assert 1 < figures["cost/energy_estimated_joules"] / seconds < 1000
    assert not list(tmp_path.iterdir())
