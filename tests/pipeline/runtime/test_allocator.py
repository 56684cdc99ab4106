"""What a process frees stays with it: measured by its page faults, in a process of its own."""

import platform
import subprocess
import sys

import pytest

from tests.conftest import PROJECT

_BLOCKS = """
import resource, sys
import numpy as np
from pipeline.runtime import allocator

if "keep" in sys.argv:
    allocator.keep_freed()
np.ones(2**26, np.uint8)  # the first pages have to come from somewhere
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.ones(2**26, np.uint8)  # 64 MB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no other C library can be asked")
def test_pages_of_large_blocks_are_mapped_once() -> None:
    faults = {
        mode: int(
            subprocess.run(
                [sys.executable, "-c", _BLOCKS, mode],
                cwd=PROJECT,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for mode in ("give back", "keep")
    }
    assert faults["keep"] * 10 < faults["give back"]
