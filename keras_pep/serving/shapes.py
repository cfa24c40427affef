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
    columns = 1 + max(len(each.shape) for each in inputs)
    declared = np.full((len(inputs), columns), _ENDED, np.int32)
    for row, each in zip(declared, inputs, strict=True):
        sizes = [_ANY if size is None else size for size in each.shape]
        row[: len(sizes)] = sizes
    ended = np.full(columns, _ENDED, np.int32)
    shapes = [tf.shape(tensor) for tensor in given]
    found = tf.stack([tf.concat([s, ended], 0)[:columns] for s in shapes])
    found.set_shape(declared.shape)
    fits = tf.where(declared == _ANY, found >= 0, found == declared)
    fits = tf.reduce_all(fits, axis=1)
    rows = tf.boolean_mask(found[:, 0], declared[:, 0] == _ANY)
    right = tf.reduce_all(fits) & tf.reduce_all(rows == rows[:1])

    def refuse() -> Any:
        message = _message(inputs, shapes, fits)
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


def _message(inputs: Sequence[Input], shapes: Sequence[Any], fits: Any) -> Any:
    """Which inputs have the wrong shape, or how many rows each has."""
    expected = [f"{i.name}: expected {_declared(i.shape)}" for i in inputs]
    found = tf.stack([_text(shape) for shape in shapes])
    lines = tf.strings.join([expected, found], separator=", found ")
    differ = tf.reduce_all(fits)  # if each is right, their rows are not
    problem = tf.where(
        differ,
        "All inputs must have the same number of rows. ",
        "An input has the wrong shape. ",
    )
    lines = tf.boolean_mask(lines, differ | ~fits)
    return problem + tf.strings.reduce_join(lines, separator="; ")


def _declared(shape: Sequence[int | None]) -> str:
    sizes = ["any" if size is None else str(size) for size in shape]
    if shape[:1] == (None,):
        sizes[0] = "rows"
    return f"({', '.join(sizes)})"


def _text(shape: Any) -> Any:
    sizes = tf.strings.reduce_join(tf.strings.as_string(shape), separator=", ")
    return tf.strings.join(["(", sizes, ")"])
