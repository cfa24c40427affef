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
    """Describes how inner layers are quantized, for a configuration.

    Empty if none is.
    """
    found = {}
    for key, inner in _numbered(layer):
        if getattr(inner, "quantization_mode", None) is not None:
            config = inner.get_config()
            found[key] = {name: config[name] for name in _SETTINGS}
    return {_KEY: found} if found else {}


def quantize_as(cls: Any, config: Mapping[str, Any]) -> Any:
    """Makes a layer whose inner layers are quantized as its configuration says.

    Their weights are created when the layer is built.
    """
    settings = dict(config)
    kinds = settings.pop(_KEY, {})
    layer = cls(**settings)
    deserialize = keras_of(cls).saving.deserialize_keras_object
    for key, inner in _numbered(layer):
        if key in kinds:
            policy, quantization = (kinds[key][name] for name in _SETTINGS)
            inner.quantization_config = deserialize(quantization)
            inner.dtype_policy = deserialize(policy)
    return layer


def _numbered(layer: Any) -> Iterator[tuple[str, Any]]:
    """Yields inner layers with a key: class name and number within it."""
    counts: dict[str, int] = {}
    for inner in layers_within(layer, include_self=False):
        kind = type(inner).__name__
        counts[kind] = counts.get(kind, -1) + 1
        yield f"{kind}/{counts[kind]}", inner
