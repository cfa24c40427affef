"""The second half of the method: train what the ticket keeps."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import keras
import numpy as np

from keras_pep.distribution.replicas import scope_of
from keras_pep.layers import PEPEmbedding, variables
from keras_pep.layers.exchange import (
    compile_like,
    exchanged,
    finalize,
    in_place,
    kind_of,
)
from keras_pep.layers.pruned_embedding import PrunedEmbeddingMixin
from keras_pep.pruning.fitting import fit
from keras_pep.pruning.ticket import Ticket, other_weights, pep_layers
from keras_pep.runtime import layers_of, refuse_legacy

STARTS = ("rewind", "reinit", "finetune")

_SEARCHED = keras.saving.get_registered_name(PEPEmbedding)


def retrain(
    model: keras.Model,
    ticket: Ticket,
    train: Any,
    validation: Any = None,
    *,
    start: str = "rewind",
    optimizer: keras.Optimizer | None = None,
    epochs: int = 20,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    **fit_arguments: Any,
) -> keras.Model:
    """Train the small model of a ticket.

    Args:
        model: The compiled model that was searched. It is left as it is; the
            new one is compiled with the same settings, but for `optimizer`.
        ticket: What the search has found.
        train: See `search`.
        validation: See `search`.
        start: See `pruned_model`.
        optimizer: What to train with: a copy of it, fresh. By default one
            with the settings of the searched model's. A rate that falls to
            zero suits small tables: see `keras.optimizers.schedules`.
        epochs: Number of epochs, unless a callback stops earlier.
        callbacks: Further callbacks for `model.fit`, such as
            `keras.callbacks.EarlyStopping`.
        **fit_arguments: Further arguments for `model.fit`. By default it is
            silent, shuffles arrays, and leaves the order of batches to `train`.

    Returns:
        A new compiled model, trained, with a `PrunedEmbedding` in place of
        every `PEPEmbedding`.

    Raises:
        ValueError: If the model is not compiled; and see `pruned_model`.

    Example:

    ```python
    (ticket,) = keras_pep.search(model, train, budgets=[30_000], epochs=2)
    small = keras_pep.retrain(model, ticket, train, validation, epochs=2)
    ```
    """
    refuse_legacy(model)
    if not model.compiled:
        raise ValueError(
            "The model must be compiled, as it was for the search. "
            f"Received: model={model.name!r}"
        )
    small = pruned_model(model, ticket, start)
    with scope_of(small):
        compile_like(model, small, optimizer)
    fit(
        small,
        train,
        validation,
        epochs=epochs,
        callbacks=list(callbacks),
        **fit_arguments,
    )
    return small


def pruned_model(
    model: keras.Model, ticket: Ticket | None = None, start: str = "rewind"
) -> keras.Model:
    """The same model with compact tables.

    The model's configuration is taken, every `PEPEmbedding` in it exchanged,
    and a model made from it. This works for any model that Keras can save and
    load, if the layers are part of its configuration. Those of a functional
    model are; a subclass has to put them there, as `FieldModel` does.
    What is neither configuration nor weight, such as the vocabulary that a
    lookup layer has adapted, is not copied.

    Args:
        model: The model that was searched.
        ticket: What the search has found. By default, what the model keeps
            now, at its present values, which makes a model that
            `keras_pep.callbacks.PEPRetraining` has trained a compact one.
        start: Values of its weights. `"rewind"`: those the searched model began
            with; `"reinit"`: drawn anew; `"finetune"`: those the search left.

    Returns:
        A new model, built, not compiled.

    Raises:
        ValueError: If the ticket is not of this model, or the model's layers
            are not part of its configuration.

    Example:

    ```python
    small = keras_pep.pruned_model(model)
    small.save("small.keras")
    ```

    Reference:
        - [Frankle & Carbin, 2019](https://arxiv.org/abs/1803.03635), on
          rewinding and drawing anew
    """
    if start not in STARTS:
        raise ValueError(
            f"`start` must be one of {', '.join(STARTS)}. "
            f"Received: start={start!r}"
        )
    refuse_constraints(model)
    if ticket is None:
        ticket, start = Ticket.from_model(model, (), 0, 0), "finetune"
    with scope_of(model):
        small, pruned = exchanged(
            model,
            functools.partial(_pruned, model, ticket),
            ticket.tables,
            PrunedEmbeddingMixin,
        )
    weights: Sequence[np.ndarray] | None = None  # as they are drawn
    if start == "rewind":
        tables, weights = ticket.tables, ticket.weights
    elif start == "finetune":
        tables, weights = ticket.learned_tables(), ticket.learned_weights
    else:
        tables = {
            layer.name: ticket.tables[layer.name].with_values_of(
                layer.drawn_blocks()
            )
            for layer in pep_layers(model)
        }
    for name, table in tables.items():
        pruned[name].assign_sparse(table)
    if weights is not None:
        _assign(other_weights(small, ticket.tables), weights, model)
    finalize(small)
    return small


def refuse_constraints(model: keras.Model) -> None:
    """Refuse a model whose tables could be searched, but not retrained.

    Raises:
        ValueError: If a `PEPEmbedding` has a constraint.
    """
    for layer in pep_layers(model):
        if layer.embeddings_constraint is not None:
            raise ValueError(
                "`PrunedEmbedding` has no constraints: train the model "
                "without. "
                f"Received: embeddings_constraint of {layer.name!r}"
            )


def _assign(
    weights: Sequence[keras.Variable],
    values: Sequence[np.ndarray],
    model: keras.Model,
) -> None:
    if [tuple(w.shape) for w in weights] != [value.shape for value in values]:
        raise ValueError(
            "The ticket belongs to another model: the weights besides the "
            "tables differ in number or shape. "
            f"Received: model={model.name!r}"
        )
    for weight, value in zip(weights, values, strict=True):
        variables.assign(weight, value)


def _pruned(
    model: Any, ticket: Ticket, config: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    """Make a `PEPEmbedding` a `PrunedEmbedding`."""
    if kind_of(config) != _SEARCHED:
        return None
    layer = config["config"]
    table = ticket.tables.get(layer["name"])
    if table is None or table.shape != (
        layer["input_dim"],
        layer["output_dim"],
    ):
        raise ValueError(
            "The ticket belongs to another model: it has no table for the "
            f"layer {layer['name']!r}. Its tables: "
            f"{ {name: t.shape for name, t in ticket.tables.items()} }"
        )
    pruned = layers_of(model).PrunedEmbedding
    alike = (
        *("name", "trainable", "dtype", "mask_zero", "combiner"),
        "embeddings_regularizer",
    )
    made = pruned(
        **asdict(pruned.layout_of(table)),
        **{name: layer.get(name) for name in alike},
    )
    return in_place(config, made)
