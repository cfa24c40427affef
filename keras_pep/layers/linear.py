"""The first-order part of a model: one weight per feature, and a bias."""

from typing import Any

import keras
from keras import ops

from keras_pep.layers import lookup
from keras_pep.layers.embedding import positive_integer


@keras.saving.register_keras_serializable(package="keras_pep")
class Linear(keras.layers.Layer):
    """Sum of the weights of the looked-up features, plus a bias.

    Args:
        input_dim: Integer. Number of features.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input shape:
        Integer tensor `(batch, fields)`, values in `[0, input_dim)`.

    Output shape:
        `(batch, 1)`.
    """

    built: bool

    def __init__(self, input_dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.input_dim = positive_integer("input_dim", input_dim)
        self.autocast = False  # ids stay integers

    def build(self, input_shape: Any = None) -> None:
        """Creates `kernel` and `bias`."""
        if self.built:
            return
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.input_dim, 1),
            initializer="zeros",
            autocast=False,
        )
        self.kernel.is_table = True  # for optimizers
        self.bias = self.add_weight(
            name="bias", shape=(1,), initializer="zeros", autocast=False
        )
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Adds up the weights of every example."""
        rows, spread = lookup.distinct(lookup.as_ids(inputs))
        weights = spread(lookup.take(self.kernel, rows))
        logits = ops.sum(weights, axis=-2) + self.bias
        return ops.cast(logits, self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """`(batch, 1)`."""
        return (*input_shape[:-1], 1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "input_dim": self.input_dim}
