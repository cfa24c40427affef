"""Ids of features: never wrapped, and never looked up as another feature's.

An id out of range is an error where that costs nothing: in eager calls, and on
TensorFlow's CPU in graphs, too. Where it would, on a GPU, in what XLA compiles
and in models to be served, its row is NaN.
"""

import contextlib
import contextvars
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pep._tf_kernels import on_cpu
from keras_pep.runtime import LayerMixin

_LOWEST, _HIGHEST = np.iinfo(np.int32).min, np.iinfo(np.int32).max
# They stand for what int32 cannot hold.
_BEYOND, _NOT_HELD = (_LOWEST, _HIGHEST), "no whole number of int32"

_NAN_INSTEAD: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "keras_pep_nan_instead", default=False
)


_RIGHT: contextvars.ContextVar[Any] = contextvars.ContextVar(
    "keras_pep_ids_are_right", default=None
)


@contextlib.contextmanager
def nan_instead_of_error() -> Iterator[None]:
    """Make graphs that answer an id out of range with NaN, never an error.

    For graphs that others share: a server that puts requests together would
    let all of them fail for a row of one. Models and layers called within have
    no operation that ends a batch for an id.
    """
    token = _NAN_INSTEAD.set(True)
    try:
        yield
    finally:
        _NAN_INSTEAD.reset(token)


@contextlib.contextmanager
def ids_are_right(ids: Any) -> Iterator[None]:
    """Let layers look these ids up without a check: their model has done it."""
    token = _RIGHT.set(ids)
    try:
        yield
    finally:
        _RIGHT.reset(token)


class IdsMixin(LayerMixin):
    """Base of layers and models that take ids."""

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the layer, on ids as they are."""
        return super().__call__(narrowed(inputs), *args, **kwargs)


@dataclass(frozen=True, eq=False)
class Bounds:
    """The ids that are allowed.

    Attributes:
        sizes: Each id must be smaller: int32, `()`, or `(columns,)` for the
            last axis of ids.
        lowest: The smallest ids, of the same shape.
        problem: How the error begins.
        expected: How it ends, for each column or for all.
    """

    sizes: np.ndarray
    lowest: np.ndarray
    problem: str
    expected: Sequence[str]

    @classmethod
    def of_table(cls, name: str, input_dim: int) -> "Bounds":
        """The rows of a table."""
        return cls(
            np.array(input_dim),
            np.array(0),
            f"An id is not in the table of {name!r}.",
            [f". Expected: an id in [0, {input_dim})."],
        )

    @classmethod
    def of_fields(
        cls, field_sizes: Sequence[int], field_lengths: Sequence[int]
    ) -> "Bounds":
        """The features of each column's field."""
        sizes: list[int] = []
        lowest: list[int] = []
        expected: list[str] = []
        for field, (size, length) in enumerate(
            zip(field_sizes, field_lengths, strict=True)
        ):
            ending = ", or -1 for no feature" if length > 1 else ""
            for _ in range(length):
                expected.append(
                    f" in field {field} (column {len(sizes)}). "
                    f"Expected: an id in [0, {size}){ending}."
                )
                sizes.append(size)
                lowest.append(-1 if length > 1 else 0)
        return cls(
            np.array(sizes),
            np.array(lowest),
            "An id is not in its field.",
            expected,
        )

    @classmethod
    def of_field_rows(
        cls, field_sizes: Sequence[int], field_lengths: Sequence[int]
    ) -> "Bounds":
        """The rows of each column's field; fields follow one another."""
        ends = np.cumsum(field_sizes)
        first = ends - field_sizes
        fields = np.repeat(np.arange(len(ends)), field_lengths)
        expected = [
            f" in field {field}. Expected: a row in "
            f"[{first[field]}, {ends[field]})."
            for field in fields
        ]
        return cls(
            ends[fields], first[fields], "A row is not in its field.", expected
        )

    def contain(self, ids: Any) -> Any:
        """Whether each id is allowed, boolean."""
        dtype = keras.backend.standardize_dtype(ids.dtype)
        highest = np.minimum(self.sizes - 1, np.iinfo(dtype).max)
        return ops.logical_and(
            ids >= ops.cast(self.lowest, dtype), ids <= ops.cast(highest, dtype)
        )

    def complaint(self, ids: np.ndarray) -> str:
        """The error for the first id that is not allowed."""
        wrong = (ids < self.lowest) | (ids >= self.sizes)
        place = np.argwhere(wrong)[0]
        expected = self.expected[place[-1] if self.sizes.ndim else 0]
        found = ids[tuple(place)]
        shown = _NOT_HELD if found in _BEYOND else found
        return f"{self.problem} Found: {shown}{expected}"


def checked(
    ids: Any, bounds: Bounds, kernels_check: bool = False
) -> tuple[Any, Any]:
    """Refuse wrong ids, or replace and mark them.

    Args:
        ids: Integer tensor, as `as_ids` returns it.
        bounds: The allowed ids.
        kernels_check: Whether reading the table with a wrong id is an error by
            itself where TensorFlow computes on a CPU.

    Returns:
        The ids, and None if wrong ones are an error. Otherwise allowed ids,
        some in place of wrong ones, and a boolean tensor of the same shape:
        which ids were right.

    Raises:
        ValueError: If an id is wrong, in an eager call. On TensorFlow it is an
            `InvalidArgumentError`, in graphs as well.
    """
    if isinstance(ids, keras.KerasTensor) or ids is _RIGHT.get():
        return ids, None
    if _is_eager(ids):
        if not bool(ops.all(bounds.contain(ids))):
            raise _error(bounds.complaint(ops.convert_to_numpy(ids)))
        return ids, None
    on_tensorflow = keras.backend.backend() == "tensorflow"
    if on_tensorflow and on_cpu() and not _NAN_INSTEAD.get():
        return (ids if kernels_check else _asserted(ids, bounds)), None
    valid = bounds.contain(ids)
    allowed = ops.cast(np.maximum(bounds.lowest, 0), ids.dtype)
    return ops.where(valid, ids, allowed), valid


def nan_where_wrong(values: Any, valid: Any) -> Any:
    """Replace the values of wrong ids by NaN.

    Args:
        values: Float tensor, `(*valid.shape, width)`.
        valid: As `checked` returns it.
    """
    if valid is None:
        return values

    def with_nan() -> Any:
        return ops.where(valid[..., None], values, float("nan"))

    if keras.backend.backend() == "tensorflow" and on_cpu():
        import tensorflow as tf

        # Copies vectors only if it has to.
        return tf.cond(tf.reduce_all(valid), lambda: values, with_nan)
    return with_nan()


def of_columns(ids: Any, columns: int) -> Any:
    """Refuse a batch of ids of another width, which might be broadcast.

    Raises:
        ValueError: If the ids are not `(batch, columns)`.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        expected = tf.TensorShape((None, columns))
        if tf.is_tensor(ids) and expected.is_compatible_with(ids.shape):
            return tf.ensure_shape(ids, expected)
    if len(ids.shape) != 2 or ids.shape[1] not in (None, columns):
        raise ValueError(
            "Ids must have a column for each feature of an example. Found: "
            f"ids of shape {tuple(ids.shape)}. Expected: (batch, {columns})."
        )
    return ids


def as_ids(inputs: Any) -> Any:
    """Convert ids to int32 or int64; none becomes another valid id.

    An id that is too large, or not a whole number, becomes a number that no
    table has.

    Raises:
        ValueError: If they are ragged.
    """
    if is_ragged(inputs):
        raise ValueError(
            "Examples must have the same number of ids. Found: ragged ids. Pad "
            "lists of features with -1."
        )
    inputs = dense(inputs)
    dtype = keras.backend.standardize_dtype(inputs.dtype)
    if dtype in ("int32", "int64"):
        return inputs
    if dtype in ("uint32", "uint64"):
        # JAX has no wider integers, unless it is told to.
        jax = keras.backend.backend() == "jax" and dtype == "uint32"
        signed = "int32" if jax else "int64"
        ids = ops.cast(inputs, signed)
        return ops.where(ids < 0, ops.cast(np.iinfo(signed).max, signed), ids)
    if "float" in dtype:
        if dtype != "float64":
            inputs = ops.cast(inputs, "float32")
        whole = ops.logical_and(
            ops.equal(inputs, ops.floor(inputs)),
            ops.abs(inputs) < -float(_LOWEST),
        )
        inputs = ops.where(whole, inputs, float(_LOWEST))
    return ops.cast(inputs, "int32")


def is_ragged(inputs: Any) -> bool:
    """Whether the ids are a `tf.RaggedTensor`."""
    return hasattr(inputs, "with_flat_values")


def dense(inputs: Any) -> Any:
    """Make sparse ids dense, with 0 for missing ones, as Keras does."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if isinstance(inputs, tf.SparseTensor):
            # As Keras, of ids in any order.
            return tf.sparse.to_dense(inputs, validate_indices=False)
        return inputs
    if isinstance(inputs, keras.KerasTensor):
        return inputs
    return ops.convert_to_tensor(inputs, sparse=False)


def narrowed(ids: Any) -> Any:
    """Clip an array of 64-bit ids to int32 on JAX; no table has the ends.

    JAX would drop their upper half, so that 2**32 + 1 would be 1. Tensors and
    arrays of fewer bits are returned as they are.
    """
    if keras.backend.backend() != "jax" or not hasattr(ids, "__array__"):
        return ids
    import jax

    if (
        jax.dtypes.canonicalize_dtype(np.int64) == np.int64
        or ops.is_tensor(ids)
        or isinstance(ids, keras.KerasTensor)
    ):
        return ids
    values = np.asarray(ids)
    kind = values.dtype.kind
    if kind not in "iuf" or values.dtype.itemsize < 8:
        return ids
    if kind == "f":
        values = np.where(values == np.floor(values), values, _LOWEST)
    lowest = 0 if kind == "u" else _LOWEST
    return np.clip(values, lowest, _HIGHEST).astype(np.int32)


def _is_eager(ids: Any) -> bool:
    """Whether ids have values, and reading them does not wait for a GPU."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.executing_eagerly() and on_cpu()
    if backend == "jax":
        import jax

        return not isinstance(ids, jax.core.Tracer)
    import torch

    return (
        type(ids) is torch.Tensor
        and ids.device.type == "cpu"
        and not torch.compiler.is_compiling()
    )


def _error(message: str) -> Exception:
    if keras.backend.backend() != "tensorflow":
        return ValueError(message)
    import tensorflow as tf

    error: Exception = tf.errors.InvalidArgumentError(None, None, message)
    return error


def _above(ids: Any, lowest: np.ndarray) -> Any:
    """How far ids are above the lowest, on TensorFlow.

    As unsigned numbers, those below it are larger than all others.
    """
    import tensorflow as tf

    unsigned = {tf.int32: tf.uint32, tf.int64: tf.uint64}[ids.dtype]
    if lowest.any():
        ids = ids - lowest.astype(ids.dtype.as_numpy_dtype)
    return tf.bitcast(ids, unsigned)


def _asserted(ids: Any, bounds: Bounds) -> Any:
    """The ids, computed only if all are allowed: in a graph of TensorFlow."""
    import tensorflow as tf

    # The largest of a column tells. To compare them all takes six times.
    lowest = bounds.lowest.astype(ids.dtype.as_numpy_dtype)
    largest = tf.reduce_max(
        _above(ids, lowest), axis=0 if bounds.sizes.ndim else None
    )
    span = bounds.sizes - bounds.lowest
    if ids.dtype == tf.int32:
        span = np.minimum(span, 2**31)
    within = largest < span.astype(largest.dtype.as_numpy_dtype)

    def fail() -> Any:
        column = tf.argmin(tf.cast(tf.reshape(within, (-1,)), tf.int32))
        found = tf.bitcast(largest, ids.dtype) + lowest
        found = tf.reshape(found, (-1,))[column]
        beyond = tf.reduce_any(tf.equal(found, tf.constant(_BEYOND, ids.dtype)))
        found = tf.where(beyond, _NOT_HELD, tf.strings.as_string(found))
        expected = tf.constant(list(bounds.expected))[column]
        complaint = tf.strings.join(
            [f"{bounds.problem} Found: ", found, expected]
        )
        return tf.group(tf.debugging.Assert(False, [complaint]))

    fits = tf.cond(tf.reduce_all(within), tf.no_op, fail)
    with tf.control_dependencies([fits]):
        return tf.identity(ids)
