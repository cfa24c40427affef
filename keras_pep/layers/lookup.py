"""The look-up: from ids to vectors, and back to the gradient of a table.

`look_up` is the way forward, in five steps. A layer decides in the third what a
row becomes: `PEPEmbedding` subtracts thresholds there, `keras_pep.thresholds`.
Back, the gradient of each row is summed over the batch (`spread`), goes through
the layer's formula, and reaches the variable as a sparse gradient of the rows
that were read, which `keras_pep.optimizers.LazyAdam` reads and writes alone.
The cost of all this follows the batch, not the table.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_pep._tf_kernels import gathered
from keras_pep.layers.ids import Bounds, as_ids, checked, nan_where_wrong
from keras_pep.layers.variables import take

__all__ = ["distinct", "look_up", "take"]


def look_up(
    inputs: Any,
    bounds: Bounds,
    vectors_of: Callable[[Any], Any],
    merge: bool = True,
    kernels_check: bool = True,
) -> Any:
    """Look up the vectors of ids.

    Args:
        inputs: Ids of any shape `(...)`, of any type.
        bounds: The allowed ids; wrong ones are an error or their vector is NaN.
        vectors_of: Computes the vectors of row numbers: `(rows,)` to
            `(rows, width)`. It reads the table by `take`.
        merge: Whether to read a row once that comes several times.
        kernels_check: Whether reading a wrong row is an error by itself where
            TensorFlow computes on a CPU.

    Returns:
        Vectors, `(..., width)`.
    """
    ids, valid = checked(as_ids(inputs), bounds, kernels_check)
    rows, spread = distinct(ids, merge)
    vectors = vectors_of(rows)
    return nan_where_wrong(spread(vectors), valid)


def distinct(ids: Any, merge: bool = True) -> tuple[Any, Callable[[Any], Any]]:
    """Split a look-up into the rows to read and the way back to the batch.

    With duplicate ids in a batch, Keras' Adam, Adagrad and RMSprop on
    TensorFlow square a sparse gradient before the duplicates are summed: an id
    that fills a batch of 100 moves ten times too far. Reading every row once
    makes the gradient right, and is less to compute. On JAX and PyTorch, where
    gradients are dense and shapes should be static, every id is its own row.

    Args:
        ids: Integer tensor of any shape.
        merge: False where no gradient is needed: then it is faster to read
            some rows twice.

    Returns:
        The row numbers, `(rows,)`, and a function that takes what was computed
        for them, `(rows, ...)`, to the shape of the batch, `(*ids.shape, ...)`.
    """
    rows, positions = ops.reshape(ids, (-1,)), None
    if merge and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        rows, positions = tf.unique(rows)

    def spread(values: Any) -> Any:
        if positions is not None:
            values = gathered(values, positions)
        shape = (*ids.shape, *values.shape[1:])
        if shape.count(None) == 1 and 0 not in shape:  # fewer operations
            shape = tuple(-1 if size is None else size for size in shape)
        else:
            shape = (*ops.shape(ids), *values.shape[1:])
        return ops.reshape(values, shape)

    return rows, spread
