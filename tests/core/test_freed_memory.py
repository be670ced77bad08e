"""Memory that was freed is there again without page faults."""

import resource
import subprocess
import sys

import pytest

from recbench.core.freed_memory import keep_freed_memory

#: Two blocks of 20 MiB written and freed again and again; printed are the page faults of a round.
PROGRAM = """
import resource, sys
import numpy as np
from recbench.core.freed_memory import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def round():
    blocks = [np.ones(20 << 17) for _ in range(2)]
for _ in range(3):
    round()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    round()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 20)
"""


@pytest.mark.skipif(not keep_freed_memory(), reason="the C library is not glibc")
def test_freed_blocks_are_kept_for_the_next_round():
    faults = [
        int(subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True).stdout)
        for how in ("plain", "kept")
    ]
    pages = 40 * 2**20 // resource.getpagesize()
    assert faults[1] < pages / 20
    assert faults[1] <= faults[0]
