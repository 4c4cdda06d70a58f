"""How freed memory goes back to the system."""

import subprocess
import sys

import pytest

SCRIPT = """
import numpy
from camelid.base.memory import resident_memory, return_large_blocks
return_large_blocks()
freed = numpy.ones(3 * 2**20)
del freed  # from which glibc learns to keep blocks of this size
start, kept, blocks = resident_memory(), [], []
for _ in range(10):
    blocks.append(numpy.ones(2**20))
    kept.append(numpy.ones(2**13))
del blocks
print((resident_memory() - start) // 2**20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is Linux's")
def test_large_blocks_are_returned_where_small_ones_stay_between_them() -> None:
    """Without the call, the 80 MB are still there."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 10
