"""What a SavedModel can be asked: the functions behind its signatures."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_pep.models.base import FieldModel
from keras_pep.serving.raw import Numbering


def by_ids(served: FieldModel, model: FieldModel, names: Sequence[str]) -> Any:
    """Takes ids, int32 `(batch, columns)`, and refuses those out of range.

    Args:
        served: What computes.
        model: Whose ids are in range.
        names: Of the fields, for the error.
    """
    lengths = np.array(model.field_lengths)
    column_names = np.repeat(np.array(names), lengths)
    lowest = np.repeat(np.where(lengths > 1, -1, 0), lengths)
    highest = np.repeat(np.array(model.field_sizes) - 1, lengths)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, len(lowest)], tf.int32, name="ids")
        ],
        autograph=False,
    )
    def score(ids: Any) -> dict[str, Any]:
        wrong = (ids < lowest) | (ids > highest)
        found = tf.boolean_mask(ids, wrong)
        where = tf.boolean_mask(column_names, tf.reduce_any(wrong, axis=0))
        fits = tf.debugging.Assert(
            tf.size(found) == 0, ["ids out of range:", found, "in", where]
        )
        with tf.control_dependencies([fits]):  # before a table finds out
            ids = tf.identity(ids)
        return _probability(served, ids)

    return score.get_concrete_function()


def by_raw_values(
    served: FieldModel, numberings: Mapping[str, Numbering]
) -> tuple[Any, dict[str, str]]:
    """Takes the raw value of each field, `(batch,)`.

    Returns:
        The function, and what its arguments, which have to be identifiers, are
        to be called outside.
    """
    arguments: dict[str, str] = {}
    for place, name in enumerate(numberings):
        plain = re.fullmatch("[a-zA-Z][a-zA-Z0-9_]*", name) and name != "self"
        arguments[name if plain else f"field_{place}"] = name
    if len(arguments) < len(numberings):
        raise ValueError(f"Fields of the same name: {list(numberings)}")

    @tf.function(autograph=False)
    def score(**raw: Any) -> dict[str, Any]:
        ids = [
            numberings[name](raw[argument])
            for argument, name in arguments.items()
        ]
        return _probability(served, tf.concat(ids, axis=1))

    specs = {
        argument: tf.TensorSpec([None], numberings[name].input, name=argument)
        for argument, name in arguments.items()
    }
    return score.get_concrete_function(**specs), arguments


def as_it_is(served: keras.Model) -> Any:
    """Takes what a functional model takes, and returns what it returns.

    Raises:
        ValueError: If it is not functional.
    """
    if not getattr(served, "inputs", None):
        raise ValueError(
            "What the model takes cannot be told: export a functional model, "
            f"or one of `keras_pep.models`. Received: {type(served).__name__}"
        )
    specs = [
        tf.TensorSpec(tensor.shape, tensor.dtype, name=tensor.name)
        for tensor in served.inputs
    ]

    @tf.function(input_signature=specs, autograph=False)
    def score(*inputs: Any) -> dict[str, Any]:
        outputs = served(list(inputs) if len(inputs) > 1 else inputs[0])
        outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
        return dict(zip(served.output_names, outputs, strict=True))

    return score.get_concrete_function()


def _probability(served: FieldModel, ids: Any) -> dict[str, Any]:
    logits = tf.cast(served(ids, training=False), tf.float32)
    return {"probability": tf.reshape(tf.sigmoid(logits), [-1])}
