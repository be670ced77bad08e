"""Lightning is imported without torchmetrics' accessories, and they are there for everybody else."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import gc
gc.disable()  # it takes a fifth of what imports cost
import sys
from recbench.training.quick_import import without_accessories
with without_accessories():
    import recbench.training.fit
assert {"torchmetrics", "pytorch_lightning"} <= set(sys.modules)
assert not {"matplotlib", "scipy.signal", "transformers.models.auto"} & set(sys.modules)
from lightning_utilities.core.imports import RequirementCache, module_available, package_available
assert module_available("matplotlib") and package_available("scipy") and RequirementCache("transformers>=4.4.0")
import transformers, matplotlib.pyplot, scipy.signal
"""


@pytest.mark.slow
def test_a_trainer_is_there_without_what_nothing_calls():
    """A process that imports Lightning (5 s)."""
    subprocess.run([sys.executable, "-c", SCRIPT], check=True)
