"""The second half of the method: train what the ticket keeps."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_pep.layers import PEPEmbedding, PrunedEmbedding
from keras_pep.search.ticket import Ticket, other_weights

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
        model: The compiled model that was searched. It is left as it is; the
            new one is compiled with the same settings.
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
        ValueError: If the model is not compiled; and see `pruned_model`.
    """
    if not model.compiled:
        raise ValueError(
            "The model must be compiled, as it was for the search. "
            f"Received: model={model.name!r}"
        )
    small = pruned_model(model, ticket)
    loss = model.loss
    if callable(loss) and not isinstance(loss, keras.Loss):  # a function
        scope = {loss.__name__: loss}
    else:
        scope = {type(loss).__name__: type(loss)}
    with keras.saving.custom_object_scope(scope):  # registered or not
        small.compile_from_config(model.get_compile_config())
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

    The model's configuration is taken, every `PEPEmbedding` in it exchanged,
    and a model made from it. This works for any model that Keras can save and
    load, if the layers are part of its configuration. Those of a functional
    model are; a subclass has to put them there, as `FieldModel` does.
    What is neither configuration nor weight, such as the vocabulary that a
    lookup layer has adapted, is not copied.

    Args:
        model: The model that was searched.
        ticket: What the search has found.

    Returns:
        A new model, built, not compiled.

    Raises:
        ValueError: If the ticket is not of this model, or the model's layers
            are not part of its configuration.
    """
    config = _exchange(keras.saving.serialize_keras_object(model), ticket)
    config.pop("compile_config", None)
    small = keras.saving.deserialize_keras_object(config)
    if not small.built:
        small.build_from_config(model.get_build_config())
    pruned = {
        layer.name: layer
        for layer in small._flatten_layers()
        if isinstance(layer, PrunedEmbedding)
    }
    absent = set(ticket.tables) - set(pruned)
    if absent:
        raise ValueError(
            f"The layers {sorted(absent)} are not in the configuration of "
            f"{model.name!r}, so that no pruned model can be made of it: let "
            "its `get_config` hold them, by "
            "`keras.saving.serialize_keras_object`."
        )
    for name, table in ticket.tables.items():
        pruned[name].assign_sparse(table)
    weights = other_weights(small)
    if [tuple(weight.shape) for weight in weights] != [
        value.shape for value in ticket.weights
    ]:
        raise ValueError(
            "The ticket is not of this model: their other weights differ in "
            f"number or shape. Received: model={model.name!r}"
        )
    for weight, value in zip(weights, ticket.weights, strict=True):
        weight.assign(value)
    for layer in small._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # what it computes with follows weights
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
    if layer["embeddings_constraint"] is not None:
        raise ValueError(
            "`PrunedEmbedding` has no constraints. "
            f"Received: embeddings_constraint of {layer['name']!r}"
        )
    return {
        **config,
        **keras.saving.serialize_keras_object(
            PrunedEmbedding(
                *table.shape,
                num_values=table.values.size,
                embeddings_regularizer=layer["embeddings_regularizer"],
                mask_zero=layer["mask_zero"],
                name=layer["name"],
                dtype=keras.saving.deserialize_keras_object(layer["dtype"]),
            )
        ),
    }
