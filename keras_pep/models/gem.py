"""Factorization machine of vectors that graph convolutions have mixed."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pep.models.fm import FM, FMMixin
from keras_pep.runtime import keras_of


class GEMMixin(FMMixin):
    """Generalized embedding machine: graph convolutions before the pairs.

    ```
    h_i^0 = v_i
    h_i^{l+1} = h_i^l + relu(W_l mean_{j != i} h_j^l + b_l)
    logit = b + sum_i w_i + sum_{i<j} <h_i^L, h_j^L>
    ```

    The features of an example are the nodes of its graph, and each pair of
    them is an edge. The `h_i^l` on the right is what keeps nodes apart: with
    self-loops alone, the vectors of a complete graph all become their mean.
    Matrices have `embedding_dim ** 2` entries, which no budget counts.

    Args:
        *args: Those of `FieldModel`.
        num_convolutions: Number of graph convolutions.
        **kwargs: Those of `FM`.

    Example:

    ```python
    model = keras_pep.models.GEM(field_sizes=[6040, 3706], embedding_dim=16)
    model.compile(
        keras_pep.optimizers.AdamL2(1e-3),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    ```

    Reference:
        - [Yang et al., 2020](https://arxiv.org/abs/2002.06561), whose graph
          is one of all features, with neighbors sampled
    """

    def __init__(
        self, *args: Any, num_convolutions: int = 1, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.convolutions = [
            keras_of(self).layers.Dense(
                self.embedding_dim,
                activation="relu",
                name=f"convolution_{number}",
                dtype=self.dtype_policy,
            )
            for number in range(num_convolutions)
        ]

    def vectors(self, rows: Any, shares: Any = None) -> Any:
        """Convolved vectors, `(batch, fields, embedding_dim)`."""
        vectors = super().vectors(rows, shares)
        fields = len(self.field_sizes)
        edges = (1 - np.eye(fields)) / max(1, fields - 1)  # to the others
        for convolution in self.convolutions:
            means = ops.matmul(ops.cast(edges, vectors.dtype), vectors)
            vectors = vectors + convolution(means)
        return vectors

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_convolutions": len(self.convolutions),
        }


@keras.saving.register_keras_serializable(package="keras_pep")
class GEM(GEMMixin, FM):  # noqa: D101
    __doc__ = GEMMixin.__doc__
