"""Rebuild a model from its configuration, with some layers exchanged."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import keras

from keras_pep._keras_compat import layers_within
from keras_pep.layers import variables
from keras_pep.runtime import keras_of, weights_of

# Takes the configuration of a layer, or of anything else, as
# `serialize_keras_object` has it; returns another, or None to leave it.
Exchange = Callable[[Mapping[str, Any]], Mapping[str, Any] | None]


def exchanged(
    model: keras.Model,
    exchange: Exchange,
    names: Collection[str],
    kind: Any,
    config: Mapping[str, Any] | None = None,
) -> tuple[keras.Model, dict[str, Any]]:
    """Make a model like another, with some layers exchanged.

    Args:
        model: The other model. Its layers must be part of its configuration.
        exchange: What to put in the place of each layer.
        config: The configuration to start from, by default the model's.
        names: Names of the layers that are put in.
        kind: Their class.

    Returns:
        A new model, built, not compiled, and its layers of that class by name.

    Raises:
        ValueError: If a layer that was put in is not there, or there twice.
    """
    if config is None:
        config = keras_of(model).saving.serialize_keras_object(model)
    settings = walk(config, exchange)
    settings.pop("compile_config", None)
    made = keras_of(model).saving.deserialize_keras_object(settings)
    if not made.built:
        made.build_from_config(model.get_build_config())
    found: dict[str, Any] = {}
    for layer in layers_within(made):
        if not isinstance(layer, kind) or layer.name not in names:
            continue
        if layer.name in found:
            raise ValueError(
                f"The configuration of {model.name!r} has the layer "
                f"{layer.name!r} in several of its models, which would not "
                "share it any more: convert or prune each of them alone."
            )
        found[layer.name] = layer
    _copy_vocabularies(model, made)
    absent = set(names) - set(found)
    if absent:
        raise ValueError(
            f"The layers {sorted(absent)} are not in the configuration of "
            f"{model.name!r}, so no other model can be made from it. Add them "
            "to its `get_config` with `keras.saving.serialize_keras_object`."
        )
    return made, found


def walk(config: Any, exchange: Exchange) -> Any:
    """Exchange layers in a configuration; see `exchanged`."""
    if isinstance(config, list | tuple):
        return type(config)(walk(item, exchange) for item in config)
    if not isinstance(config, Mapping):
        return config
    made = exchange(config)
    if made is not None:
        return made
    return {key: walk(value, exchange) for key, value in config.items()}


def in_place(config: Mapping[str, Any], layer: Any) -> dict[str, Any]:
    """Put a layer in the place of another in a configuration."""
    return {**config, **keras_of(layer).saving.serialize_keras_object(layer)}


def kind_of(config: Mapping[str, Any]) -> str | None:
    """Name the class of a configuration; None if it is no class of Keras."""
    name = config.get("registered_name")
    if name is None and config.get("module") in _KERAS:
        name = config.get("class_name")
    return name


_KERAS = ("keras.layers", "tf_keras.layers")


def copy_weights(
    source: keras.Model,
    target: keras.Model,
    apart: tuple[Collection[keras.Variable], Collection[keras.Variable]],
) -> None:
    """Copy the weights of a model that are in no exchanged layer.

    Args:
        source: The model.
        target: What `exchanged` has made of it.
        apart: The weights of exchanged layers, in either.

    Raises:
        ValueError: If the others are not the same in both.
    """
    weights, others = (
        [w for w in weights_of(model) if id(w) not in known]
        for model, known in zip(
            (source, target), (set(map(id, x)) for x in apart), strict=True
        )
    )
    if [w.shape for w in weights] != [w.shape for w in others]:
        raise ValueError(
            "The configuration of the model describes other weights than the "
            f"model has. Received: model={source.name!r}"
        )
    for weight, other in zip(weights, others, strict=True):
        # A copy: on JAX a step deletes the arrays that it was given.
        variables.assign(other, variables.values_of(weight))
    finalize(target)


def finalize(model: keras.Model) -> None:
    """Let layers that compute with copies of their weights make them anew."""
    for layer in layers_within(model):
        if isinstance(layer, keras_of(model).layers.Normalization):
            layer.finalize_state()


def compile_like(
    model: keras.Model, made: keras.Model, optimizer: Any = None
) -> None:
    """Compile a model with the settings of another.

    Args:
        model: The other model, compiled.
        made: The model to compile.
        optimizer: By default a fresh one with the settings of the other's.
    """
    loss = model.loss
    if callable(loss) and not isinstance(loss, keras.Loss):  # a function
        scope = {loss.__name__: loss}
    else:
        scope = {type(loss).__name__: type(loss)}
    config = model.get_compile_config()
    if optimizer is not None:
        config["optimizer"] = keras.saving.serialize_keras_object(optimizer)
    # The loss may be registered or not.
    with keras.saving.custom_object_scope(scope):
        made.compile_from_config(config)


def _copy_vocabularies(model: keras.Model, made: keras.Model) -> None:
    """Give lookup layers what others of their names have adapted."""
    adapted = {
        layer.name: layer
        for layer in layers_within(model)
        if hasattr(layer, "set_vocabulary")
    }
    for layer in layers_within(made):
        if layer.name in adapted and hasattr(layer, "set_vocabulary"):
            vocabulary = adapted[layer.name].get_vocabulary()
            if vocabulary != layer.get_vocabulary():
                layer.set_vocabulary(vocabulary)
