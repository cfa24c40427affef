"""Memory of large tables, in the large pages that Linux gives on request."""

import ctypes
import mmap
from typing import Any

import numpy as np


def unset_table(shape: tuple[int, ...], dtype: str) -> Any:
    """A tensor of TensorFlow whose values are still to be set.

    The rows of a batch are all over a table. With pages of 4 KiB most of them
    are on one that the processor does not know the place of, and finding it
    takes as long as reading the row. Linux has pages of 2 MiB; where it does
    not give them to all (`/sys/kernel/mm/transparent_hugepage/enabled` says
    `madvise`), it does to memory that has asked for them before it is used.

    Args:
        shape: Of the table.
        dtype: Of its values.

    Returns:
        A tensor. Where there are no such pages, it has others.
    """
    import tensorflow as tf

    tensor = tf.raw_ops.Empty(shape=shape, dtype=dtype)
    if tf.executing_eagerly() and "CPU" in tensor.device:
        _ask_for_huge_pages(np.asarray(memoryview(tensor)))
    return tensor


def _ask_for_huge_pages(memory: np.ndarray) -> None:
    advice = getattr(mmap, "MADV_HUGEPAGE", None)
    if advice is None:
        return
    address = memory.ctypes.data
    first = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
    size = address + memory.nbytes - first
    if size > 0:
        # An advice: that it is not taken is no error.
        ctypes.CDLL(None).madvise(
            ctypes.c_void_p(first), ctypes.c_size_t(size), advice
        )
