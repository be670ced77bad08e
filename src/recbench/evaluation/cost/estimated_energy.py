"""Energy where no counter of the machine can be read: CodeCarbon's estimate from the load of the processor and its rated power (extra ``energy``).

An estimate is no measurement: it has a figure of its own, ``cost/energy_estimated_joules``, of the whole run from its start to the end of its test,
and is never added to what counters say. CodeCarbon asks no server here, and writes no file.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from recbench.core.errors import UserError

#: Seconds between two looks at the processor.
EVERY_SECONDS = 5
JOULES_PER_KWH = 3.6e6


def check_package() -> None:
    """Raise UserError where CodeCarbon is not installed."""
    if importlib.util.find_spec("codecarbon") is None:
        raise UserError(
            "hardware.estimate_energy=true needs CodeCarbon: pip install 'recbench[energy]', or leave it out"
        )


@contextmanager
def estimated_energy(wanted: bool) -> Iterator[dict[str, float]]:
    """A mapping that holds ``cost/energy_estimated_joules`` at its end; it stays empty unless ``wanted``. Raises UserError without CodeCarbon."""
    figures: dict[str, float] = {}
    if not wanted:
        yield figures
        return
    check_package()
    from codecarbon import OfflineEmissionsTracker

    tracker = OfflineEmissionsTracker(
        country_iso_code="USA",  # of the emissions, which are not used: an energy is the same everywhere
        measure_power_secs=EVERY_SECONDS,
        save_to_file=False,
        tracking_mode="machine",
        log_level="critical",
        allow_multiple_runs=True,
    )
    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
    tracker.start()
    try:
        yield figures
    finally:
        tracker.stop()
        found = getattr(tracker, "final_emissions_data", None)
        if found is not None:
            figures["cost/energy_estimated_joules"] = JOULES_PER_KWH * float(found.energy_consumed)
