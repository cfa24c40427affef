import mmap
from pathlib import Path

import numpy as np
import pytest

from keras_pep._tf_kernels import unset_table

_MAPPINGS = Path("/proc/self/smaps")


def flags_at(address):
    """What Linux says of the mapping that an address is in."""
    found = False
    for line in _MAPPINGS.read_text().splitlines():
        name, *others = line.split()
        if not name.endswith(":"):
            first, last = (int(x, 16) for x in name.split("-"))
            found = first <= address < last
        elif found and name == "VmFlags:":
            return others
    return []


@pytest.mark.skipif(
    not hasattr(mmap, "MADV_HUGEPAGE") or not _MAPPINGS.exists(),
    reason="only Linux has huge pages that one asks for",
)
def test_huge_pages_have_been_asked_for():
    table = unset_table((2**19, 32), "float32")
    assert table.shape == (2**19, 32)
    address = np.asarray(memoryview(table)).ctypes.data
    assert "hg" in flags_at(address + table.shape[0] * 64)


@pytest.mark.parametrize("shape", [(0, 4), (1, 1), (5, 3)])
def test_small_tables_may_be_made_too(shape):
    assert unset_table(shape, "float32").shape == shape
