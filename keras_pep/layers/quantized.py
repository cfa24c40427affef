"""Quantized layers inside a layer or model, written to its configuration.

`model.quantize` changes inner layers, but the configuration of the outer one
holds only the arguments that it made them with.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from keras_pep._keras_compat import layers_within
from keras_pep.runtime import keras_of

_KEY = "quantized"
_SETTINGS = ("dtype", "quantization_config")


def quantized(layer: Any) -> dict[str, Any]:
    """Describe how inner layers are quantized, for a configuration.

    Empty if none is.
    """
    found = {}
    for key, inner in _numbered(layer):
        if _mode_of(inner) is not None:
            config = inner.get_config()
            found[key] = {name: config[name] for name in _SETTINGS}
    return {_KEY: found} if found else {}


def quantize_as(cls: Any, config: Mapping[str, Any]) -> Any:
    """Make a layer whose inner layers are quantized as in a configuration."""
    settings = dict(config)
    kinds = settings.pop(_KEY, {})
    layer = cls(**settings)
    deserialize = keras_of(cls).saving.deserialize_keras_object
    for key, inner in _numbered(layer):
        if key in kinds:
            policy, quantization = (kinds[key][name] for name in _SETTINGS)
            inner.quantization_config = deserialize(quantization)
            if not inner.built:
                inner.dtype_policy = deserialize(policy)
            elif not _mode_of(inner):
                mode = deserialize(policy).quantization_mode
                inner.quantize(mode, config=inner.quantization_config)
    return layer


def _mode_of(layer: Any) -> str | None:
    """Return how Keras has quantized a layer; of `tf_keras` it never has."""
    return getattr(layer.dtype_policy, "quantization_mode", None)


def _numbered(layer: Any) -> Iterator[tuple[str, Any]]:
    """Yield inner layers with a key: class name and number within it."""
    counts: dict[str, int] = {}
    for inner in layers_within(layer, include_self=False):
        kind = type(inner).__name__
        counts[kind] = counts.get(kind, -1) + 1
        yield f"{kind}/{counts[kind]}", inner
