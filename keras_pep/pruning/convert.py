"""Give a model of Keras the tables that can be searched."""

from collections.abc import Collection, Mapping
from typing import Any

import keras
from keras import ops

from keras_pep._keras_compat import layers_within
from keras_pep.distribution.replicas import scope_of
from keras_pep.layers.exchange import (
    compile_like,
    copy_weights,
    exchanged,
    in_place,
    kind_of,
)
from keras_pep.layers.pep_embedding import PEPEmbeddingMixin
from keras_pep.layers.row_embedding import RowEmbedding
from keras_pep.runtime import keras_of, layers_of

_KINDS = "Embedding", keras.saving.get_registered_name(RowEmbedding)
# What Keras' layer and ours have in common.
_ALIKE = (
    *("name", "trainable", "dtype", "input_dim", "output_dim", "mask_zero"),
    *("embeddings_initializer", "embeddings_regularizer"),
    "embeddings_constraint",
)


def convert(
    model: keras.Model,
    layers: Collection[str | keras.layers.Layer] | None = None,
    **settings: Any,
) -> keras.Model:
    """Put `PEPEmbedding` in the place of `keras.layers.Embedding`.

    The tables begin with the values they have, and tickets rewind to them: a
    trained model is searched and retrained from what it has learned.

    Args:
        model: A built model, trained or not, whose layers are part of its
            configuration, as those of a functional model are. It is left as
            it is.
        layers: Embedding layers, or their names; by default all that are
            trained. A frozen one stays as it is unless it is named.
        **settings: Arguments of `PEPEmbedding`, such as `granularity`.

    Returns:
        A new model with the same weights, and thresholds besides. If the model
        is compiled, so is the new one, with a fresh optimizer.

    Raises:
        ValueError: If a layer is no `keras.layers.Embedding` of the model, is
            not built or is quantized, or there is none at all.

    Example:

    ```python
    model = keras.saving.load_model("trained.keras")
    searched = keras_pep.convert(model)
    tickets = keras_pep.search(searched, train, sparsity=0.95)
    small = keras_pep.retrain(searched, tickets[0], train)
    ```
    """
    own = keras_of(model).layers.Embedding
    there = {
        layer.name: layer
        for layer in layers_within(model)
        if isinstance(layer, own)
    }
    if layers is None:
        layers = [layer for layer in there.values() if layer.trainable]
    names = [
        layer if isinstance(layer, str) else layer.name for layer in layers
    ]
    for name in names or [None]:
        _check(model, name, there)

    def exchange(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
        if kind_of(config) not in _KINDS or (
            config["config"]["name"] not in names
        ):
            return None
        arguments = {key: config["config"][key] for key in _ALIKE}
        layer = layers_of(model).PEPEmbedding(**{**arguments, **settings})
        return in_place(config, layer)

    with scope_of(model):
        made, tables = exchanged(model, exchange, names, PEPEmbeddingMixin)
        apart: tuple[list[Any], list[Any]] = ([], [])
        for name, table in tables.items():
            table.begin_with(ops.convert_to_numpy(there[name].embeddings))
            apart[0].extend(there[name].weights)
            apart[1].extend(table.weights)
        copy_weights(model, made, apart)
        if model.compiled:
            compile_like(model, made)
    return made


def _check(
    model: keras.Model,
    name: str | None,
    there: Mapping[str, keras.layers.Layer],
) -> None:
    """Refuse a layer that cannot be converted."""
    if name is None or name not in there:
        what = "no layer" if name is None else f"no layer {name!r}"
        raise ValueError(
            f"{model.name!r} has {what} to convert. Expected: "
            "`keras.layers.Embedding`, as a layer of the model or of its "
            "parts; a frozen one has to be named in `layers`. "
            f"Found: {sorted(there) or 'none'}."
        )
    layer = there[name]
    if not layer.built:
        raise ValueError(
            f"{name!r} has no weights yet: call the model on a batch first."
        )
    if getattr(layer, "quantization_mode", None) is not None:
        raise ValueError(
            f"The table of {name!r} is quantized, so it cannot be trained: "
            "convert the model before it is quantized."
        )
