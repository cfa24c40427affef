"""Rows of a variable, read and assigned in place, in blocks if it is large."""

import contextlib
import math
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pep._tf_kernels import of_replica
from keras_pep.blocks import LARGE, joined, row_blocks


def take(variable: keras.Variable, rows: Any) -> Any:
    """Rows of a variable, `(*rows.shape, ...)`, read without copying the rest.

    `keras.ops.take` reads the whole variable on TensorFlow.
    """
    if isinstance(variable, Columns):
        return variable.take(rows)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        table = of_replica(native(variable))
        return tf.nn.embedding_lookup(table, rows)
    return ops.take(variable, rows, axis=0)


def update(variable: keras.Variable, rows: Any, values: Any) -> None:
    """Assign some rows, in place. JAX cannot do that."""
    if isinstance(variable, Columns):
        variable.update(rows, values)
    elif keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        native(variable).scatter_update(tf.IndexedSlices(values, rows))
    else:
        variable.value.data[rows] = values


class Columns:
    """A view of some columns of a variable, read and assigned like one.

    Args:
        variable: `(rows, all)`, on TensorFlow.
        columns: Which of them.
        name: Of these.
    """

    trainable = False

    def __init__(
        self, variable: keras.Variable, columns: slice, name: str
    ) -> None:
        self.variable = variable
        self.columns = columns
        self.name = name
        self.path = "/".join([*variable.path.split("/")[:-1], name])
        self.shape = variable.shape[0], columns.stop - columns.start
        self.dtype = variable.dtype

    @property
    def value(self) -> Any:
        """Their values, a tensor."""
        return ops.convert_to_tensor(self.variable)[:, self.columns]

    def take(self, rows: Any) -> Any:
        """Some rows of them."""
        return take(self.variable, rows)[:, self.columns]

    def update(self, rows: Any, values: Any) -> None:
        """Assign some rows of them; the other columns stay as they are."""
        whole, columns = take(self.variable, rows), self.columns
        parts = [
            whole[:, : columns.start],
            ops.convert_to_tensor(values, self.dtype),
            whole[:, columns.stop :],
        ]
        update(self.variable, rows, ops.concatenate(parts, axis=1))

    def assign(self, values: Any) -> None:
        """Assign all rows of them, block by block."""
        if tuple(values.shape) != self.shape:
            raise ValueError(
                f"{self.name} has the shape {self.shape}. "
                f"Received: values of shape {tuple(values.shape)}"
            )
        for rows in row_slices(self):
            self.update(ops.arange(rows.start, rows.stop), values[rows])

    def numpy(self) -> np.ndarray:
        """A copy of their values."""
        return joined(blocks(self), self.shape[0])

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        """A copy of their values."""
        return self.numpy().astype(dtype or self.dtype, copy=False)


def blocks(variable: keras.Variable | Columns) -> Iterator[np.ndarray]:
    """The rows of a variable, `(rows, ...)`, not too many at once."""
    for rows in row_slices(variable):
        numbers = np.arange(rows.start, rows.stop)
        block = take(variable, ops.convert_to_tensor(numbers))
        yield np.asarray(ops.convert_to_numpy(block))


def assign_blocks(variable: keras.Variable, values: Iterable[Any]) -> None:
    """Assign what `blocks` is to give.

    On TensorFlow in place; elsewhere a new table takes the place of the old.
    """
    if keras.backend.backend() == "tensorflow":
        for rows, block in zip(row_slices(variable), values, strict=True):
            update(variable, ops.arange(rows.start, rows.stop), block)
        return
    if _is_divided(variable):
        _assign_divided(variable, values)
        return
    tensors = [ops.convert_to_tensor(block) for block in values]
    variable.assign(ops.concatenate(tensors))


def values_of(variable: keras.Variable) -> np.ndarray:
    """A copy of the values of a variable, made without a second one."""
    if _is_large(variable):
        return joined(blocks(variable), variable.shape[0])
    return np.array(ops.convert_to_numpy(variable))


def assign(variable: keras.Variable, values: np.ndarray) -> None:
    """Assign values, without a second copy of them."""
    if _is_large(variable):
        assign_blocks(variable, (values[rows] for rows in row_slices(variable)))
    else:
        variable.assign(values)


def fill(variable: keras.Variable, number: Any) -> None:
    """Assign one number everywhere."""
    in_place = keras.backend.backend() == "tensorflow"
    whole = not _is_large(variable) and not isinstance(variable, Columns)
    if not in_place or whole:
        # On JAX of the same layout, where `ops.full` would fill one device.
        variable.assign(ops.full_like(native(variable), number))
        return
    shape, dtype = tuple(variable.shape), variable.dtype
    assign_blocks(
        variable,
        (
            ops.full((rows.stop - rows.start, *shape[1:]), number, dtype)
            for rows in row_slices(variable)
        ),
    )


def row_slices(variable: keras.Variable) -> Iterator[slice]:
    """The rows of a variable, as `row_blocks` divides them."""
    rows, *others = variable.shape
    return row_blocks(rows, math.prod(others))


def native(variable: Any) -> Any:
    """The backend's variable in one of Keras 3, or `tf_keras`' own."""
    return variable.value if isinstance(variable, keras.Variable) else variable


def made_as(dtype: str) -> str:
    """The type to make a variable of integers with, to hold a narrow one.

    Between the workers of a `MultiWorkerMirroredStrategy` TensorFlow sends
    initial values as int32 or int64 alone.
    """
    if keras.backend.backend() != "tensorflow":
        return dtype
    import tensorflow as tf

    strategy = tf.distribute.get_strategy()
    workers = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    return "int32" if workers and "int" in dtype else dtype


def without_gradients() -> contextlib.AbstractContextManager[Any]:
    """Turn the recording of gradients off on PyTorch."""
    if keras.backend.backend() != "torch":
        return contextlib.nullcontext()
    import torch

    off: contextlib.AbstractContextManager[Any] = torch.no_grad()
    return off


def _is_large(variable: keras.Variable) -> bool:
    return int(math.prod(variable.shape)) > LARGE


def _is_divided(variable: keras.Variable) -> bool:
    """Whether devices hold parts of a variable, which only JAX does."""
    sharding = getattr(variable.value, "sharding", None)
    return sharding is not None and not sharding.is_fully_replicated


def _assign_divided(variable: keras.Variable, values: Iterable[Any]) -> None:
    """Assign rows to the devices that hold them."""
    import jax

    # By row numbers: for a slice, or a concatenation, XLA would gather the
    # table on every device.
    scatter = jax.jit(
        lambda table, rows, block: table.at[rows].set(
            block, indices_are_sorted=True, unique_indices=True
        ),
        donate_argnums=0,
        out_shardings=variable.value.sharding,
    )
    table = ops.zeros_like(variable.value)
    for rows, block in zip(row_slices(variable), values, strict=True):
        table = scatter(table, np.arange(rows.start, rows.stop), block)
    variable.assign(table)
