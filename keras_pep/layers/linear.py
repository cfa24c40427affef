"""The first-order part of a model: one weight per feature, and a bias."""

import functools
from typing import Any, Self

import keras
from keras import ops

from keras_pep.layers import lookup
from keras_pep.layers.embedding import positive_integer
from keras_pep.layers.ids import Bounds, IdsMixin
from keras_pep.layers.initial import by_blocks
from keras_pep.runtime import keras_of


class LinearMixin(IdsMixin):
    """Sum of the weights of the looked-up features, plus a bias.

    Args:
        input_dim: Integer. Number of features.
        embedding: Layer that looks the weights up, `(..., 1)`, such as
            `PEPEmbedding(input_dim, 1)`. By default they are a `kernel` of
            this layer, zero to begin with.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input shape:
        Integer tensor `(batch, columns)`, values in `[0, input_dim)`, others
        being an error or NaN; if each is to count less than 1, their shares,
        `(batch, columns)`.

    Output shape:
        `(batch, 1)`.

    Example:

    ```python
    layer = keras_pep.layers.Linear(10_000)
    layer(np.array([[1, 2, 3]]))  # (1, 1)
    ```
    """

    built: bool

    def __init__(
        self,
        input_dim: int,
        embedding: keras.layers.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.input_dim = positive_integer("input_dim", input_dim)
        self.embedding = embedding
        self.autocast = False  # ids stay integers

    def build(self, input_shape: Any = None) -> None:
        """Create `kernel` and `bias`."""
        if self.built:
            return
        if self.embedding is None:
            shape = self.input_dim, 1
            self.kernel = self.add_weight(
                name="kernel",
                shape=shape,
                initializer=by_blocks(keras.initializers.Zeros(), shape),
                autocast=False,
            )
            self.kernel.is_table = True  # for optimizers
        elif not self.embedding.built:
            self.embedding.build(input_shape)
        self.bias = self.add_weight(
            name="bias", shape=(1,), initializer="zeros", autocast=False
        )
        self.built = True

    def call(self, inputs: Any, shares: Any = None) -> Any:
        """Add up the weights of every example, each times its share."""
        if self.embedding is None:
            weights = lookup.look_up(
                inputs,
                Bounds.of_table(self.name, self.input_dim),
                functools.partial(lookup.take, self.kernel),
            )
        else:
            weights = self.embedding(inputs)
        weights = ops.cast(weights, self.variable_dtype)
        if shares is not None:
            weights = weights * ops.cast(shares, weights.dtype)[..., None]
        logits = ops.sum(weights, axis=-2) + self.bias
        return ops.cast(logits, self.compute_dtype)

    def quantize(
        self, mode: str, type_check: bool = True, config: Any = None
    ) -> None:
        """Refuse: Keras' quantization of a row is none for one number a row.

        Raises:
            NotImplementedError: Always. `model.quantize` makes it a warning.
        """
        raise NotImplementedError(
            f"{self.name!r} cannot be quantized: a row is one number. "
            "`keras_pep.export_saved_model(..., quantize='int8')` stores a "
            "model's tables in int8."
        )

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """`(batch, 1)`."""
        return (*input_shape[:-1], 1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "input_dim": self.input_dim,
            "embedding": keras_of(self).saving.serialize_keras_object(
                self.embedding
            ),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The layer that `get_config` describes."""
        embedding = keras_of(cls).saving.deserialize_keras_object(
            config["embedding"]
        )
        return cls(**{**config, "embedding": embedding})


@keras.saving.register_keras_serializable(package="keras_pep")
class Linear(LinearMixin, keras.layers.Layer):  # noqa: D101
    __doc__ = LinearMixin.__doc__
