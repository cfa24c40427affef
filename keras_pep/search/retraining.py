"""The second half of the method: train what the ticket keeps."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_pep.layers import PEPEmbedding, PrunedEmbedding
from keras_pep.search.ticket import Ticket, other_variables

_SEARCHED = keras.saving.get_registered_name(PEPEmbedding)


def retrain(
    model: keras.Model,
    ticket: Ticket,
    train: Any,
    validation: Any = None,
    *,
    epochs: int = 20,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    **fit_arguments: Any,
) -> keras.Model:
    """Trains the small model of a ticket from its initial values.

    Args:
        model: The compiled model that was searched. It is left as it is; a new
            optimizer is made from the settings of its own.
        ticket: What the search has found.
        train: What `model.fit` takes as `x`, a `tf.data.Dataset` for example.
        validation: What `model.fit` takes as `validation_data`, if anything.
        epochs: Number of epochs, unless a callback stops earlier.
        callbacks: Further callbacks for `model.fit`, such as
            `keras.callbacks.EarlyStopping`.
        **fit_arguments: Further arguments for `model.fit`. By default it is
            silent, and leaves shuffling to `train`.

    Returns:
        A new compiled model, trained, with a `PrunedEmbedding` in place of
        every `PEPEmbedding`.

    Raises:
        ValueError: See `pruned_model`.
    """
    small = pruned_model(model, ticket)
    small.compile(
        optimizer=type(model.optimizer).from_config(
            model.optimizer.get_config()
        ),
        loss=model.loss,
    )
    small.fit(
        train,
        validation_data=validation,
        epochs=epochs,
        callbacks=list(callbacks),
        **{"verbose": 0, "shuffle": False, **fit_arguments},
    )
    return small


def pruned_model(model: keras.Model, ticket: Ticket) -> keras.Model:
    """The same model with compact tables, every weight at its initial value.

    Works for any model that Keras can save and load: its configuration is
    taken, each `PEPEmbedding` in it is exchanged, and a model made from it.

    Args:
        model: The model that was searched.
        ticket: What the search has found.

    Returns:
        A new model, built, not compiled.

    Raises:
        ValueError: If the ticket is not of this model.
    """
    config = _exchange(keras.saving.serialize_keras_object(model), ticket)
    config.pop("compile_config", None)
    small = keras.saving.deserialize_keras_object(config)
    if not small.built:
        small.build_from_config(model.get_build_config())
    for layer in small._flatten_layers():
        if isinstance(layer, PrunedEmbedding) and layer.name in ticket.tables:
            layer.assign_sparse(ticket.tables[layer.name])
    variables = other_variables(small)
    if [tuple(v.shape) for v in variables] != [
        value.shape for value in ticket.weights
    ]:
        raise ValueError(
            "The ticket is not of this model: their other weights differ in "
            f"number or shape. Received: model={model.name!r}"
        )
    for variable, value in zip(variables, ticket.weights, strict=True):
        variable.assign(value)
    return small


def _exchange(config: Any, ticket: Ticket) -> Any:
    """A configuration with every `PEPEmbedding` made a `PrunedEmbedding`."""
    if isinstance(config, list | tuple):
        return type(config)(_exchange(item, ticket) for item in config)
    if not isinstance(config, Mapping):
        return config
    if config.get("registered_name") != _SEARCHED:
        return {key: _exchange(value, ticket) for key, value in config.items()}
    layer = config["config"]
    table = ticket.tables.get(layer["name"])
    if table is None or table.shape != (
        layer["input_dim"],
        layer["output_dim"],
    ):
        raise ValueError(
            "The ticket is not of this model: it has no table for the layer "
            f"{layer['name']!r}. Its tables: "
            f"{ {name: t.shape for name, t in ticket.tables.items()} }"
        )
    return {
        **config,
        **keras.saving.serialize_keras_object(
            PrunedEmbedding(
                *table.shape,
                num_values=table.values.size,
                mask_zero=layer["mask_zero"],
                name=layer["name"],
                dtype=keras.saving.deserialize_keras_object(layer["dtype"]),
            )
        ),
    }
