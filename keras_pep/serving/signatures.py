"""What a SavedModel can be asked: the functions behind its signatures."""

import keyword
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_pep.models.base import FieldModelMixin
from keras_pep.serving.raw import Numbering, spell


def by_ids(
    served: FieldModelMixin, model: FieldModelMixin, names: Sequence[str]
) -> Any:
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
    served: FieldModelMixin, numberings: Mapping[str, Numbering]
) -> tuple[Any, dict[str, str]]:
    """Takes the raw value of each field, `(batch,)`.

    Returns:
        The function, and what its arguments, which have to be identifiers, are
        to be called outside.
    """
    arguments = _arguments(list(numberings))
    spelled = [a for a, name in arguments.items() if numberings[name].spelled]

    @tf.function(autograph=False)
    def score(**raw: Any) -> dict[str, Any]:
        if spelled:
            made = spell([raw[argument] for argument in spelled])
            raw = {**raw, **dict(zip(spelled, made, strict=True))}
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


def _arguments(names: Sequence[str]) -> dict[str, str]:
    """Names by the arguments they are to be, which TensorFlow restricts."""
    plain = all(
        re.fullmatch("[a-z][a-z0-9_]*", name)
        and name != "self"
        and not keyword.iskeyword(name)
        for name in names
    )
    return {
        name if plain else f"input_{place}": name
        for place, name in enumerate(names)
    }


def as_it_is(served: keras.Model) -> tuple[Any, dict[str, str]]:
    """Takes what a functional model takes, and returns what it returns.

    Returns:
        The function, and what its arguments are to be called outside.

    Raises:
        ValueError: If it is not functional.
    """
    if not getattr(served, "inputs", None):
        raise ValueError(
            "What the model takes cannot be told: export a functional model, "
            f"or one of `keras_pep.models`. Received: {type(served).__name__}"
        )
    arguments = _arguments([tensor.name for tensor in served.inputs])
    structure = getattr(served, "_inputs_struct", None)
    if structure is None:  # of `tf_keras`
        structure = served.input

    @tf.function(autograph=False)
    def score(**inputs: Any) -> dict[str, Any]:
        flat = [inputs[argument] for argument in arguments]
        outputs = served(
            keras.tree.pack_sequence_as(structure, flat), training=False
        )
        flat = keras.tree.flatten(outputs)
        return dict(zip(served.output_names, flat, strict=True))

    specs = {
        argument: tf.TensorSpec(tensor.shape, tensor.dtype, name=argument)
        for argument, tensor in zip(arguments, served.inputs, strict=True)
    }
    return score.get_concrete_function(**specs), arguments


def _probability(served: FieldModelMixin, ids: Any) -> dict[str, Any]:
    logits = tf.cast(served(ids, training=False), tf.float32)
    return {"probability": tf.reshape(tf.sigmoid(logits), [-1])}
