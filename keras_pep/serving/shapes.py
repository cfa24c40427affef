"""A check of shapes inside of a graph, in words that a client understands."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

OPERATION = "right_shapes"  # the one that refuses others
_ANY, _ENDED = -2, -1  # a length that is not declared; one beyond the rank


@dataclass(frozen=True)
class Input:
    """An input of a signature.

    Attributes:
        name: As clients call it.
        dtype: TensorFlow's type.
        shape: Its lengths, the rows of the batch first; None for any.
    """

    name: str
    dtype: Any
    shape: tuple[int | None, ...]


def checked(inputs: Sequence[Input], given: Sequence[Any]) -> list[Any]:
    """Refuse tensors of another shape than the inputs declare.

    Only requests whose rows have the same shape are merged by a server, so
    that the error ends none that is right.

    Args:
        inputs: What is declared. Those of any number of rows must have the
            same.
        given: A tensor for each, of unknown shape.

    Returns:
        The tensors, which are read after the check.
    """
    # All shapes in one vector: one after the other takes more operations.
    declared = np.concatenate([_sizes(each) for each in inputs])
    parts = [p for tensor in given for p in (tf.shape(tensor), [_ENDED])]
    filled = tf.concat([*parts, np.full_like(declared, _ENDED)], 0)
    filled = filled[: declared.size]
    filled.set_shape(declared.shape)
    right = tf.reduce_all(_fit(filled, declared))
    starts = np.cumsum([0, *(len(_sizes(each)) for each in inputs)])[:-1]
    starts = starts[declared[starts] == _ANY]
    if len(starts) > 1:
        rows = tf.gather(filled, starts)
        right &= tf.reduce_all(rows == rows[0])

    def refuse() -> Any:
        message = _message(inputs, tf.concat(parts, 0))
        refused = tf.raw_ops.Assert(
            condition=False, data=[message], summarize=1, name=OPERATION
        )
        with tf.control_dependencies([refused]):
            return tf.constant(False)

    with tf.control_dependencies(
        [tf.cond(right, lambda: tf.constant(True), refuse)]
    ):
        tensors = [tf.identity(tensor) for tensor in given]
    for tensor, each in zip(tensors, inputs, strict=True):
        tensor.set_shape(each.shape)
    return tensors


def _sizes(declared: Input) -> np.ndarray:
    """Lengths of a shape, and its end."""
    sizes = [_ANY if size is None else size for size in declared.shape]
    return np.array([*sizes, _ENDED], np.int32)


def _fit(found: Any, declared: np.ndarray) -> Any:
    """Tell whether each length is the declared one."""
    free = declared == _ANY  # of any length, but not less than 0
    highest = np.where(free, 0, np.iinfo(np.int32).max)
    return tf.minimum(found, highest) == np.where(free, 0, declared)


def _message(inputs: Sequence[Input], found: Any) -> Any:
    """Say which inputs have a wrong shape, or how many rows each has.

    Args:
        inputs: What is declared.
        found: The lengths of each, and after each the end.
    """
    ended = found == _ENDED
    place = tf.cumsum(tf.cast(ended, tf.int64), exclusive=True)
    shapes = tf.RaggedTensor.from_value_rowids(
        tf.boolean_mask(found, ~ended),
        tf.boolean_mask(place, ~ended),
        nrows=len(inputs),
        validate=False,
    )
    columns = max(len(_sizes(each)) for each in inputs)
    declared = np.full((len(inputs), columns), _ENDED, np.int32)
    for row, each in zip(declared, inputs, strict=True):
        row[: len(_sizes(each))] = _sizes(each)
    filled = shapes[:, :columns].to_tensor(_ENDED, shape=(None, columns))
    fits = tf.reduce_all(_fit(filled, declared), axis=1)
    differ = tf.reduce_all(fits)  # if each is right, their rows are not
    problem = tf.where(
        differ,
        "All inputs must have the same number of rows. ",
        "An input has the wrong shape. ",
    )
    expected = [f"{i.name}: expected {_declared(i.shape)}" for i in inputs]
    sizes = tf.strings.reduce_join(
        tf.strings.as_string(shapes), axis=1, separator=", "
    )
    lines = tf.strings.join([expected, ", found (", sizes, ")"])
    lines = tf.boolean_mask(lines, differ | ~fits)
    return problem + tf.strings.reduce_join(lines, separator="; ")


def _declared(shape: Sequence[int | None]) -> str:
    sizes = ["any" if size is None else str(size) for size in shape]
    if shape[:1] == (None,):
        sizes[0] = "rows"
    return f"({', '.join(sizes)})"
