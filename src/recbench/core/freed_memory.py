"""What becomes of memory that a step has freed: it is kept for the next one.

glibc gives blocks of some megabytes back to the kernel when they are freed, and each step pays for them again, page by page. A step of LightGCN
on Gowalla, whose tables have 18 MB, took 8,000 to 23,000 page faults and 137 to 197 ms of processor time; with freed memory kept, 370 to 740
faults and 116 to 121 ms. Models whose blocks are small, or larger than 32 MB, gain little.
"""

from __future__ import annotations

import ctypes
import functools

#: Parameters of glibc's ``mallopt``, and their values here. Blocks from 32 MiB on, the most it allows, still go back at once.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
KEPT_AT_MOST, LARGE_BLOCK = 1 << 30, 32 << 20


@functools.cache
def keep_freed_memory() -> bool:
    """Have this process keep up to 1 GiB of freed memory. Returns whether the C library let itself be told: glibc does, others have no such call."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(MMAP_THRESHOLD, LARGE_BLOCK)) and bool(mallopt(TRIM_THRESHOLD, KEPT_AT_MOST))
