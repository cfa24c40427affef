"""Faster ways to compute on TensorFlow, each with a switch.

Beside each is the plain way, which gives the same values. `USED` says which is
taken, when a layer is called, a graph traced or an optimizer built; the
environment variable `KERAS_PEP_PLAIN=1` switches all off. `python -m
benchmarks.tricks` measures how much of a training step each one saves.
"""

import ctypes
import mmap
import os
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_pep.gradients import with_gradient

USED = dict.fromkeys(
    ("adam", "distinct", "huge pages", "moments", "sums"),
    os.environ.get("KERAS_PEP_PLAIN", "0") in ("", "0"),
)

_WIDE = 32  # columns of a row that TensorFlow adds up slowly
_NARROWEST = 4  # of a part of a row that is worth cutting


def is_used(trick: str) -> bool:
    """Whether a trick is switched on, and this backend has it."""
    return USED[trick] and keras.backend.backend() == "tensorflow"


def on_cpu() -> bool:
    """Whether kernels may be used that TensorFlow has for the CPU alone."""
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util

    # Whether XLA compiles a graph, nothing public tells.
    graph = tf.compat.v1.get_default_graph()
    if control_flow_util.GraphOrParentsInXlaContext(graph):
        return False
    devices = tf.config.list_physical_devices()
    return all(device.device_type == "CPU" for device in devices)


def of_replica(table: Any) -> Any:
    """The variable of this replica, where a strategy has one for each.

    A look-up in the whole of them would read the table whole.
    """
    import tensorflow as tf

    several = isinstance(table, tf.distribute.DistributedValues)
    return table._get() if several else table


def gathered(values: Any, positions: Any) -> Any:
    """`tf.gather`, with a gradient that is summed in half the time."""
    import tensorflow as tf

    if not USED["sums"]:
        return tf.gather(values, positions)

    @with_gradient
    def function(values: Any) -> tuple[Any, Any]:
        def gradient(upstream: Any) -> Any:
            return summed(upstream, positions, tf.shape(values)[0])

        return tf.gather(values, positions), gradient

    return function(values)


def summed(values: Any, positions: Any, count: Any) -> Any:
    """`tf.math.unsorted_segment_sum` of rows.

    On the CPU it is a product with a sparse matrix of ones, whose loop is fast
    for rows of less than 32 columns. Wider ones are cut into equal parts.
    """
    import tensorflow as tf

    width = tf.TensorShape(values.shape[1:]).num_elements() or 0
    parts = _parts(width) if USED["sums"] else 0
    known = values.dtype in (tf.float32, tf.float64)
    if not parts or not known or not on_cpu():
        return tf.math.unsorted_segment_sum(values, positions, count)
    rows = tf.cast(positions, tf.int64)
    if parts > 1:
        part = tf.range(parts, dtype=tf.int64)
        rows = tf.reshape(rows[:, None] * parts + part, (-1,))
    size = tf.size(rows, tf.int64)
    # Row and column: the lower half of 64 bits, which comes first, and the
    # upper.
    columns = tf.range(0, size * 2**32, 2**32)
    sums = tf.raw_ops.SparseTensorDenseMatMul(
        a_indices=tf.bitcast(rows + columns, tf.int32),
        a_values=tf.ones_like(rows, values.dtype),
        a_shape=tf.stack([tf.cast(count, tf.int64) * parts, size]),
        b=tf.reshape(values, (-1, width // parts)),
    )
    return tf.reshape(sums, (-1, *values.shape[1:]))


def _parts(width: int) -> int:
    """Into how many equal parts rows are cut to be narrow, 0 if they cannot."""
    divisors = (x for x in range(1, width + 1) if width % x == 0)
    parts = next((x for x in divisors if width < _WIDE * x), 0)
    return 0 if parts > 1 and width < _NARROWEST * parts else parts


def are_distinct(rows: Any) -> bool:
    """Whether the graph that is being traced shows that no row comes twice.

    It does if they are the output of `tf.unique`, as with our layers. If a
    layer is called twice, rows are a concatenation, and nothing is shown.
    Without it a model that is compiled for XLA learns something else.
    """
    import tensorflow as tf

    if not USED["distinct"] or tf.executing_eagerly():
        return False
    while rows.op.type in ("Reshape", "Identity", "Cast"):
        rows = rows.op.inputs[0]
    return bool(rows.op.type == "Unique" and rows.value_index == 0)


def adam(
    rows: dict[str, Any], numbers: dict[str, Any], gradient: Any, name: str
) -> list[Any]:
    """Rows after a step of Adam, by the kernel that TensorFlow has for it.

    It is faster than the dozen operations that Adam is made of. What it
    changes are variables: the rows become some for as long as it runs.

    Args:
        rows: `var`, `m` and `v`, tensors of one shape.
        numbers: `lr`, corrected for the bias, `beta1`, `beta2` and `epsilon`.
        gradient: Of `var`.
        name: No other variable's.
    """
    import tensorflow as tf

    dtype = gradient.dtype
    handles = {
        kind: tf.raw_ops.VarHandleOp(
            dtype=dtype, shape=None, shared_name=f"{name}_{kind}"
        )
        for kind in rows
    }
    for kind, handle in handles.items():
        tf.raw_ops.AssignVariableOp(resource=handle, value=rows[kind])
    _apply_adam(handles, numbers, gradient)
    results = []
    for handle in handles.values():
        result = tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype)
        result.set_shape(gradient.shape)
        results.append(result)
        tf.raw_ops.DestroyResourceOp(resource=handle)
    return results


def adam_of_variables(
    held: dict[str, Any], numbers: dict[str, Any], gradient: Any
) -> bool:
    """Make a step of Adam by the kernel that TensorFlow has for it.

    Args:
        held: `var`, `m` and `v`, variables of TensorFlow.
        numbers: As for `adam`.
        gradient: Of `var`.

    Returns:
        Whether it was made: a strategy has other variables, and a GPU or XLA
        other ways.
    """
    import tensorflow as tf

    if tf.distribute.has_strategy() or not on_cpu():
        return False
    handles = {kind: variable.handle for kind, variable in held.items()}
    _apply_adam(handles, numbers, gradient)
    return True


def _apply_adam(
    handles: dict[str, Any], numbers: dict[str, Any], gradient: Any
) -> None:
    import tensorflow as tf

    dtype = gradient.dtype
    tf.raw_ops.ResourceApplyAdam(
        **handles,
        **{kind: tf.cast(number, dtype) for kind, number in numbers.items()},
        beta1_power=tf.zeros((), dtype),
        beta2_power=tf.zeros((), dtype),
        grad=gradient,
    )


def table_of(blocks: Iterable[Any], shape: tuple[int, ...], dtype: str) -> Any:
    """A large table of the blocks of rows that it is made of, in huge pages.

    Memory that TensorFlow has freed it may keep to itself, so there is never
    more than the table and a block.
    """
    import tensorflow as tf

    table, start = unset_table(shape, dtype), 0
    for block in blocks:
        rows = tf.range(start, start + block.shape[0])
        table = tf.raw_ops.InplaceUpdate(x=table, i=rows, v=block)
        start += block.shape[0]
    return table


def unset_table(shape: tuple[int, ...], dtype: str) -> Any:
    """A tensor whose values are still to be set.

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
    on_host = tf.executing_eagerly() and "CPU" in tensor.device
    if USED["huge pages"] and on_host:
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
