"""The layers, for `tf_keras`; see their twins in `keras_pep.layers`."""

from typing import Any

import tf_keras

from keras_pep.layers.attention import InteractingLayerMixin
from keras_pep.layers.interactions import (
    CrossLayerMixin,
    FactorizationMachineMixin,
    FieldPairInteractionMixin,
)
from keras_pep.layers.linear import LinearMixin
from keras_pep.layers.mlp import MLPMixin
from keras_pep.layers.pep_embedding import PEPEmbeddingMixin
from keras_pep.layers.pruned_embedding import PrunedEmbeddingMixin

_registered = tf_keras.saving.register_keras_serializable(package="keras_pep")


class _Layer(tf_keras.layers.Layer):
    """A layer of `tf_keras` that does as one of Keras 3."""

    def __init__(self, **kwargs: Any) -> None:
        dtype = kwargs.get("dtype")
        if isinstance(dtype, dict) and dtype["class_name"] == "DTypePolicy":
            raise TypeError(
                "This is the configuration of a Keras 3 layer: load the file "
                "with `keras.saving.load_model`; weights can be moved to "
                "`tf_keras` by `.weights.h5`."
            )
        super().__init__(**{"autocast": False, **kwargs})


@_registered
class PEPEmbedding(PEPEmbeddingMixin, _Layer):  # noqa: D101
    __doc__ = PEPEmbeddingMixin.__doc__


@_registered
class PrunedEmbedding(PrunedEmbeddingMixin, _Layer):  # noqa: D101
    __doc__ = PrunedEmbeddingMixin.__doc__


@_registered
class Linear(LinearMixin, _Layer):  # noqa: D101
    __doc__ = LinearMixin.__doc__


@_registered
class FactorizationMachine(FactorizationMachineMixin, _Layer):  # noqa: D101
    __doc__ = FactorizationMachineMixin.__doc__


@_registered
class FieldPairInteraction(FieldPairInteractionMixin, _Layer):  # noqa: D101
    __doc__ = FieldPairInteractionMixin.__doc__


@_registered
class CrossLayer(CrossLayerMixin, _Layer):  # noqa: D101
    __doc__ = CrossLayerMixin.__doc__


@_registered
class InteractingLayer(InteractingLayerMixin, _Layer):  # noqa: D101
    __doc__ = InteractingLayerMixin.__doc__


@_registered
class MLP(MLPMixin, _Layer):  # noqa: D101
    __doc__ = MLPMixin.__doc__
