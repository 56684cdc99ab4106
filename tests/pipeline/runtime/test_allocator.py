"""What a process frees stays with it: measured by its page faults, in a process of its own."""

import os
import platform
import subprocess
import sys

import pytest

from tests.conftest import PROJECT

_BLOCKS = """
import resource, sys
import numpy as np
from pipeline.runtime import allocator

getattr(allocator, sys.argv[1], lambda: None)()
size = int(sys.argv[2])
np.ones(size, np.uint8)  # the first pages have to come from somewhere
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.ones(size, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(asked: str, size: int, **variables: str) -> int:
    command = [sys.executable, "-c", _BLOCKS, asked, str(size)]
    environment = {**os.environ, **variables}
    return int(subprocess.check_output(command, cwd=PROJECT, env=environment))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no other C library can be asked")
@pytest.mark.parametrize(
    ("asked", "size", "variables"),
    [
        ("keep_freed", 2**26, {}),
        ("keep_as_usual", 2**22, {"MALLOC_TRIM_THRESHOLD_": "65536"}),  # as Dask's workers have it
    ],
)
def test_pages_of_blocks_are_mapped_once(asked: str, size: int, variables: dict[str, str]) -> None:
    assert _faults(asked, size, **variables) * 10 < _faults("nothing", size, **variables)
