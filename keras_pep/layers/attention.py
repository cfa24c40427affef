"""Fields that attend to one another."""

from typing import Any

import keras
from keras import ops

from keras_pep.layers.embedding import positive_integer
from keras_pep.runtime import LayerMixin, keras_of


class InteractingLayerMixin(LayerMixin):
    """Multi-head self-attention over the fields of an example, as in AutoInt.

    ```
    head_h(i) = sum_j softmax_j(<Q_h v_i, K_h v_j>) V_h v_j
    output(i) = relu([head_1(i), ..., head_H(i)] + R v_i)
    ```

    Not `keras.layers.MultiHeadAttention`: AutoInt has no projection after the
    heads and does not scale the scores.

    Args:
        units: Width of the output, divided among the heads.
        num_heads: Number of heads; divides `units`.
        dropout: Share of attention weights that is dropped in training.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input shape:
        `(batch, fields, width)`.

    Output shape:
        `(batch, fields, units)`.

    Raises:
        ValueError: If `num_heads` does not divide `units`.

    Example:

    ```python
    layer = keras_pep.layers.InteractingLayer(64, num_heads=2)
    layer(np.ones((2, 7, 16)))  # (2, 7, 64)
    ```

    Reference:
        - [Song et al., 2019](https://arxiv.org/abs/1810.11921), equations 5-8
    """

    def __init__(
        self,
        units: int,
        num_heads: int = 2,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = positive_integer("units", units)
        self.num_heads = positive_integer("num_heads", num_heads)
        if self.units % self.num_heads:
            raise ValueError(
                "`num_heads` must divide `units`. "
                f"Received: num_heads={num_heads}, units={units}"
            )
        layers = keras_of(self).layers
        self.dropout = layers.Dropout(
            dropout, name="dropout", dtype=self.dtype_policy
        )

    def build(self, input_shape: Any) -> None:
        """Create the four projections."""
        self.query, self.key, self.value, self.residual = (
            self.add_weight(
                name=name,
                shape=(input_shape[-1], self.units),
                initializer="glorot_uniform",
            )
            for name in ("query", "key", "value", "residual")
        )
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Let every field look at every other."""
        fields, size = inputs.shape[1], self.units // self.num_heads

        def heads_of(projection: Any) -> Any:
            projected = ops.reshape(
                ops.matmul(inputs, projection),
                (-1, fields, self.num_heads, size),
            )
            return ops.transpose(projected, (0, 2, 1, 3))

        query, key = heads_of(self.query), heads_of(self.key)
        scores = ops.softmax(
            ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))
        )
        heads = ops.matmul(
            self.dropout(scores, training=training), heads_of(self.value)
        )
        heads = ops.reshape(
            ops.transpose(heads, (0, 2, 1, 3)), (-1, fields, self.units)
        )
        return ops.relu(heads + ops.matmul(inputs, self.residual))

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """`(batch, fields, units)`."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "num_heads": self.num_heads,
            "dropout": self.dropout.rate,
        }


@keras.saving.register_keras_serializable(package="keras_pep")
class InteractingLayer(InteractingLayerMixin, keras.layers.Layer):  # noqa: D101
    __doc__ = InteractingLayerMixin.__doc__
