"""Lightning is imported without torchmetrics' accessories and without torch's compiler, and they are there for everybody else."""

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
import torch
from recbench.nn.optimizers import uncompiled
part = torch.nn.Linear(2, 2)
optimizer = uncompiled(torch.optim.AdamW)(part.parameters(), fused=True)
part(torch.ones(1, 2)).sum().backward()
optimizer.step()
assert not {"torch._dynamo", "torch.distributed.fsdp", "sympy"} & set(sys.modules)
from lightning_fabric.wrappers import OptimizedModule
assert not isinstance(part, OptimizedModule)
compiled = torch.compile(part, backend="eager")
assert compiled(torch.ones(1, 2)).shape == (1, 2)
assert isinstance(compiled, OptimizedModule) and type(compiled) is torch._dynamo.OptimizedModule
assert not isinstance(part, OptimizedModule)
from lightning_utilities.core.imports import RequirementCache, module_available, package_available
assert module_available("matplotlib") and package_available("scipy") and RequirementCache("transformers>=4.4.0")
import transformers, matplotlib.pyplot, scipy.signal
"""


@pytest.mark.slow
def test_a_trainer_is_there_without_what_nothing_calls():
    """A process that imports Lightning (5 s)."""
    subprocess.run([sys.executable, "-c", SCRIPT], check=True)
