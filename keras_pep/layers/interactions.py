"""How the vectors of an example's features meet."""

from typing import Any, Self

import keras
import numpy as np
from keras import ops

from keras_pep.gradients import with_gradient
from keras_pep.layers.embedding import positive_integer
from keras_pep.layers.quantized import quantize_as, quantized
from keras_pep.runtime import LayerMixin, keras_of


class FactorizationMachineMixin(LayerMixin):
    """Sum of the dot products of all pairs of an example's vectors.

    ```
    sum_{i<j} <v_i, v_j> = 1/2 * sum((sum_i v_i)**2 - sum_i v_i**2)
    ```

    Input shape:
        `(batch, fields, embedding_dim)`.

    Output shape:
        `(batch, 1)`.

    Example:

    ```python
    vectors = np.array([[[1.0, 2.0], [3.0, 4.0]]])
    keras_pep.layers.FactorizationMachine()(vectors)  # [[11.0]]
    ```

    Reference:
        - [Rendle, 2010](https://doi.org/10.1109/ICDM.2010.127)
    """

    def call(self, inputs: Any) -> Any:
        """Compute the pairwise part in time linear in the fields."""
        return _pairs(inputs)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """`(batch, 1)`."""
        return (input_shape[0], 1)


@with_gradient
def _pairs(vectors: Any) -> tuple[Any, Any]:
    total = ops.sum(vectors, axis=1)
    squares = ops.sum(ops.square(vectors), axis=1)
    pairs = 0.5 * ops.sum(ops.square(total) - squares, axis=-1, keepdims=True)

    def gradient(upstream: Any) -> Any:
        return upstream[:, None] * (total[:, None] - vectors)

    return pairs, gradient


class FieldPairInteractionMixin(LayerMixin):
    """Sum of the products of all pairs of vectors, weighted by pair of fields.

    ```
    sum_{f<g} <v_f * r_fg, v_g>
    ```

    Each pair of fields has a vector of weights `r_fg`, all 1 to begin with:
    the layer starts as `FactorizationMachine`.

    Args:
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input shape:
        `(batch, fields, embedding_dim)`.

    Output shape:
        `(batch, 1)`.

    Raises:
        ValueError: If there are fewer than two fields.

    Example:

    ```python
    layer = keras_pep.layers.FieldPairInteraction()
    layer(np.ones((2, 3, 4)))  # (2, 1)
    ```

    Reference:
        - [Pan et al., 2018](https://arxiv.org/abs/1806.03514), one number for
          each pair
        - [Sun et al., 2021](https://arxiv.org/abs/2102.12994), vectors and
          matrices
    """

    def build(self, input_shape: Any) -> None:
        """Create the weights, `(pairs of fields, embedding_dim)`."""
        _, fields, dim = input_shape
        if fields < 2:
            raise ValueError(
                "A pair needs two fields: use `FactorizationMachine`, or `FM`. "
                f"Received: input_shape={input_shape}"
            )
        first, second = np.triu_indices(fields, 1)
        self.kernel = self.add_weight(
            name="kernel", shape=(len(first), dim), initializer="ones"
        )
        # Where the weights of each pair are, from 1; 0 is no pair.
        self._places = np.zeros((fields, fields), np.int32)
        self._places[first, second] = np.arange(1, len(first) + 1)
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Multiply by matrices `(fields, fields)`, one for each column.

        The vectors of all pairs would take `fields / 2` times the memory.
        """
        weights = ops.take(
            ops.pad(self.kernel, ((1, 0), (0, 0))), self._places, axis=0
        )
        columns = ops.transpose(inputs, (2, 0, 1))
        weighted = ops.matmul(columns, ops.transpose(weights, (2, 0, 1)))
        return ops.sum(columns * weighted, axis=(0, 2))[:, None]

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """`(batch, 1)`."""
        return (input_shape[0], 1)


class CrossLayerMixin(LayerMixin):
    """Cross layer of DCN-V2, with a full matrix.

    ```
    output = first * (W input + b) + input
    ```

    Several of them, each on the output of the one before and all on the same
    `first`, express products of as many more of its entries.

    Args:
        units: Width of the input, and of the output.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input shape:
        Twice `(batch, units)`: the input, and that of the first layer.

    Output shape:
        `(batch, units)`.

    Example:

    ```python
    first = np.ones((2, 8))
    vectors = keras_pep.layers.CrossLayer(8)(first, first)  # (2, 8)
    ```

    Reference:
        - [Wang et al., 2021](https://arxiv.org/abs/2008.13535), equation 1
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = positive_integer("units", units)
        self.dense = keras_of(self).layers.Dense(
            self.units, name="dense", dtype=self.dtype_policy
        )

    def build(self, inputs_shape: Any, first_shape: Any = None) -> None:
        """Build the dense layer."""
        self.dense.build(inputs_shape)
        self.built = True

    def call(self, inputs: Any, first: Any) -> Any:
        """Cross the input with that of the first layer."""
        return first * self.dense(inputs) + inputs

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "units": self.units, **quantized(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The layer that `get_config` describes."""
        made: Self = quantize_as(cls, config)
        return made


@keras.saving.register_keras_serializable(package="keras_pep")
class FactorizationMachine(FactorizationMachineMixin, keras.layers.Layer):  # noqa: D101
    __doc__ = FactorizationMachineMixin.__doc__


@keras.saving.register_keras_serializable(package="keras_pep")
class FieldPairInteraction(FieldPairInteractionMixin, keras.layers.Layer):  # noqa: D101
    __doc__ = FieldPairInteractionMixin.__doc__


@keras.saving.register_keras_serializable(package="keras_pep")
class CrossLayer(CrossLayerMixin, keras.layers.Layer):  # noqa: D101
    __doc__ = CrossLayerMixin.__doc__
