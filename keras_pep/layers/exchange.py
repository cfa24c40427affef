"""The same model with other layers: made anew from its configuration."""

from collections.abc import Collection, Mapping
from typing import Any

import keras

from keras_pep.layers.pruned_embedding import PrunedEmbeddingMixin
from keras_pep.runtime import keras_of


def exchanged(
    model: keras.Model, config: Mapping[str, Any], names: Collection[str]
) -> tuple[keras.Model, dict[str, PrunedEmbeddingMixin]]:
    """The model that a changed configuration describes.

    Args:
        model: Whose configuration it was.
        config: As `serialize_keras_object` has it, with layers exchanged.
        names: Of the `PrunedEmbedding` layers that have been put in.

    Returns:
        A new model, built, not compiled, and its `PrunedEmbedding` layers by
        name.

    Raises:
        ValueError: If one that was put in is not there, or there twice.
    """
    settings = {k: v for k, v in config.items() if k != "compile_config"}
    made = keras_of(model).saving.deserialize_keras_object(settings)
    if not made.built:
        made.build_from_config(model.get_build_config())
    pruned: dict[str, PrunedEmbeddingMixin] = {}
    for layer in made._flatten_layers():
        if not isinstance(layer, PrunedEmbeddingMixin):
            continue
        if layer.name in pruned:
            raise ValueError(
                f"The configuration of {model.name!r} has {layer.name!r} more "
                "than once, as part of several of its models, so that it "
                "would not be shared any more: do this with each of them alone."
            )
        pruned[layer.name] = layer
    _copy_vocabularies(model, made)
    absent = set(names) - set(pruned)
    if absent:
        raise ValueError(
            f"The layers {sorted(absent)} are not in the configuration of "
            f"{model.name!r}, so that no pruned model can be made of it: let "
            "its `get_config` hold them, by "
            "`keras.saving.serialize_keras_object`."
        )
    return made, pruned


def _copy_vocabularies(model: keras.Model, made: keras.Model) -> None:
    """Gives lookup layers what others of their names have adapted."""
    adapted = {
        layer.name: layer
        for layer in model._flatten_layers()
        if hasattr(layer, "set_vocabulary")
    }
    for layer in made._flatten_layers():
        if layer.name in adapted and hasattr(layer, "set_vocabulary"):
            vocabulary = adapted[layer.name].get_vocabulary()
            if vocabulary != layer.get_vocabulary():
                layer.set_vocabulary(vocabulary)
