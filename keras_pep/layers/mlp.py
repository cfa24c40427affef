"""The deep part of a model."""

from collections.abc import Sequence
from typing import Any, Self

import keras

from keras_pep.layers.embedding import positive_integer
from keras_pep.layers.quantized import quantize_as, quantized
from keras_pep.runtime import LayerMixin, keras_of

# Of the averages that batch normalization keeps. Keras' 0.99 leaves them far
# behind where a model is at its best after an epoch of a hundred steps; this is
# PyTorch's default, and so the PEP authors' value.
_MOMENTUM = 0.9


class MLPMixin(LayerMixin):
    """Multi-layer perceptron that ends in one logit.

    Each hidden layer is dense, normalized over the batch, rectified, and
    dropped out.

    Args:
        units: Units of each hidden layer.
        dropout: Share of hidden units that is dropped in training.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input shape:
        `(batch, ...)`; what follows the batch is flattened.

    Output shape:
        `(batch, 1)`.

    Example:

    ```python
    layer = keras_pep.layers.MLP([100, 100], dropout=0.2)
    layer(np.ones((2, 4, 8)))  # (2, 1)
    ```
    """

    def __init__(
        self, units: Sequence[int], dropout: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.units = tuple(positive_integer("units", n) for n in units)
        self.dropout = dropout
        own = keras_of(self)
        layers, dtype = own.layers, self.dtype_policy
        self._stack = own.Sequential([layers.Flatten(dtype=dtype)])
        for n in self.units:
            self._stack.add(layers.Dense(n, use_bias=False, dtype=dtype))
            self._stack.add(
                layers.BatchNormalization(momentum=_MOMENTUM, dtype=dtype)
            )
            self._stack.add(layers.ReLU(dtype=dtype))
            self._stack.add(layers.Dropout(dropout, dtype=dtype))
        self._stack.add(layers.Dense(1, dtype=dtype))

    def build(self, input_shape: Any) -> None:
        """Build the layers inside."""
        self._stack.build(input_shape)
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Run the layers one after the other."""
        return self._stack(inputs, training=training)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """`(batch, 1)`."""
        return (input_shape[0], 1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "units": list(self.units),
            "dropout": self.dropout,
            **quantized(self),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The layer that `get_config` describes."""
        made: Self = quantize_as(cls, config)
        return made


@keras.saving.register_keras_serializable(package="keras_pep")
class MLP(MLPMixin, keras.layers.Layer):  # noqa: D101
    __doc__ = MLPMixin.__doc__
