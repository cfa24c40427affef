"""The functions behind the signatures of a SavedModel."""

import keyword
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_pep.layers.ids import nan_instead_of_error
from keras_pep.models.base import FieldModelMixin
from keras_pep.serving.raw import Numbering, spell
from keras_pep.serving.shapes import Input, checked


@dataclass(frozen=True)
class SavedFunction:
    """A function to be saved, and how clients see it.

    Attributes:
        function: Takes tensors of any shape, so that no graph takes the
            declared one for granted, and refuses those of another.
        inputs: By the names of its arguments, which have to be identifiers.
    """

    function: Any
    inputs: Mapping[str, Input]


def saved_function(
    inputs: Sequence[Input], answer: Callable[[list[Any]], dict[str, Any]]
) -> SavedFunction:
    """Make a function that checks shapes before it answers.

    TensorFlow Serving checks none, and a graph of a declared shape may answer
    another one by broadcasting.

    Args:
        inputs: What it takes.
        answer: Takes a tensor for each, and returns outputs by name.
    """
    named = dict(zip(arguments([i.name for i in inputs]), inputs, strict=True))

    @tf.function(autograph=False)
    def score(**given: Any) -> dict[str, Any]:
        return answer(checked(inputs, [given[name] for name in named]))

    specs = {
        argument: tf.TensorSpec(None, each.dtype, name=argument)
        for argument, each in named.items()
    }
    with nan_instead_of_error():
        return SavedFunction(score.get_concrete_function(**specs), named)


def by_ids(
    served: FieldModelMixin,
    model: FieldModelMixin,
    numberings: Mapping[str, Numbering],
) -> SavedFunction:
    """Take ids, int32 `(batch, columns)`; score rows out of range NaN.

    An error would end a batch that a server has merged of the requests of
    several clients.

    Args:
        served: What computes.
        model: Whose ids are in range.
        numberings: Which number some features anew.
    """
    ends = np.repeat(model.field_sizes, model.field_lengths).astype(np.int32)

    def answer(given: list[Any]) -> dict[str, Any]:
        (ids,) = given
        if served.field_sizes != model.field_sizes:
            # The served model has an id more, for values that are unknown.
            ids = tf.where(ids < ends, ids, np.iinfo(np.int32).max)
        if numberings:
            fields = tf.split(ids, model.field_lengths, axis=1)
            ids = tf.concat(
                [
                    numbering.numbers_now(each)
                    for numbering, each in zip(
                        numberings.values(), fields, strict=True
                    )
                ],
                axis=1,
            )
        return {"probability": _probability(served, ids)}

    return saved_function([Input("ids", tf.int32, (None, len(ends)))], answer)


def by_raw_values(
    served: FieldModelMixin, numberings: Mapping[str, Numbering]
) -> SavedFunction:
    """Take the raw value of each field, `(batch,)`."""
    spelled = [n for n, each in enumerate(numberings.values()) if each.spelled]

    def answer(given: list[Any]) -> dict[str, Any]:
        if spelled:
            made = spell([given[place] for place in spelled])
            for place, values in zip(spelled, made, strict=True):
                given[place] = values
        ids = [
            numbering(values)
            for numbering, values in zip(
                numberings.values(), given, strict=True
            )
        ]
        return {"probability": _probability(served, tf.concat(ids, axis=1))}

    inputs = [
        Input(name, numbering.input, (None,))
        for name, numbering in numberings.items()
    ]
    return saved_function(inputs, answer)


def as_it_is(served: keras.Model) -> SavedFunction:
    """Take what a functional model takes, and return what it returns.

    Raises:
        ValueError: If it is not functional.
    """
    if not getattr(served, "inputs", None):
        raise ValueError(
            "The inputs of the model are unknown: export a functional model, "
            f"or one of `keras_pep.models`. Received: {type(served).__name__}"
        )
    structure = getattr(served, "_inputs_struct", None)
    if structure is None:  # of `tf_keras`
        structure = served.input

    def answer(given: list[Any]) -> dict[str, Any]:
        outputs = served(
            keras.tree.pack_sequence_as(structure, given), training=False
        )
        flat = keras.tree.flatten(outputs)
        return dict(zip(served.output_names, flat, strict=True))

    inputs = [
        Input(tensor.name, tensor.dtype, tuple(tensor.shape))
        for tensor in served.inputs
    ]
    return saved_function(inputs, answer)


def by_user(served: Any) -> tuple[SavedFunction, Any]:
    """Take users, `(batch,)`, and return their best items.

    Args:
        served: A `RetrievalModel` of `keras_pep.tfrs`.

    Returns:
        The function, and what it refers to.
    """
    best, constants = served.serving_function()
    (user,) = served.user_tower.inputs
    users = Input("user", user.dtype, (None,))
    return saved_function([users], lambda given: best(*given)), constants


def arguments(names: Sequence[str]) -> list[str]:
    """Make names of arguments, as close to the given ones as TensorFlow allows.

    They are what a tensor is called in its errors: letters, digits and `_`
    after a letter, each once, whatever the case.
    """
    made: list[str] = []
    taken = {"self"}
    for name in names:
        plain = re.sub("[^A-Za-z0-9_]", "_", name)
        if not re.match("[A-Za-z]", plain):
            plain = f"input_{plain}"
        if keyword.iskeyword(plain):
            plain += "_"
        unique, count = plain, 1
        while unique.lower() in taken:
            count += 1
            unique = f"{plain}_{count}"
        taken.add(unique.lower())
        made.append(unique)
    return made


def _probability(served: FieldModelMixin, ids: Any) -> Any:
    logits = tf.cast(served(ids, training=False), tf.float32)
    return tf.reshape(tf.sigmoid(logits), [-1])
