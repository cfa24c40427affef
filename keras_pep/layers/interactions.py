"""How the vectors of an example's features meet."""

from typing import Any

import keras
from keras import ops

from keras_pep.gradients import with_gradient
from keras_pep.runtime import LayerMixin


class FactorizationMachineMixin(LayerMixin):
    """Sum of the dot products of all pairs of an example's vectors.

    ```
    sum_{i<j} <v_i, v_j> = 1/2 * sum((sum_i v_i)**2 - sum_i v_i**2)
    ```

    Input shape:
        `(batch, fields, embedding_dim)`.

    Output shape:
        `(batch, 1)`.

    Reference:
        - [Rendle, 2010](https://doi.org/10.1109/ICDM.2010.127)
    """

    def call(self, inputs: Any) -> Any:
        """Computes the pairwise part in time linear in the fields."""
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


@keras.saving.register_keras_serializable(package="keras_pep")
class FactorizationMachine(FactorizationMachineMixin, keras.layers.Layer):  # noqa: D101
    __doc__ = FactorizationMachineMixin.__doc__
