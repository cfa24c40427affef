"""Weighted sums of hashed rows."""

import math
from typing import Any

import keras
from keras import ops

from keras_pep.lab.baselines.compressed import CompressedEmbedding

_HASHES = 4


@keras.saving.register_keras_serializable(package="keras_pep")
class HashEmbedding(CompressedEmbedding):
    """A weighted sum of hashed rows, whose weights are hashed too.

    ```
    vector = sqrt(4 * output_dim) * mean(
        flat(table)[weight_hash_k(id)] * table[hash_k(id)] for k in range(4)
    )
    ```

    Weights are entries of the same table, as in the weighted hash of Tsang &
    Ahle: importance parameters of their own, as first proposed, need one for
    each feature to work.

    Args:
        *args: Those of `CompressedEmbedding`.
        **kwargs: The same.

    Reference:
        - [Svenstrup et al., 2017](https://arxiv.org/abs/1709.03933)
        - [Tsang & Ahle, 2023](https://arxiv.org/abs/2310.08670)
    """

    def build(self, input_shape: Any = None) -> None:
        """Creates the table."""
        self.rows = self._rows_of(self.output_dim)
        limit = (self.scale / self.output_dim) ** 0.5  # of both factors
        shape = (self.rows, self.output_dim)
        self.table = self._weight("table", shape, limit)
        self.built = True

    def _vectors(self, rows: Any) -> Any:
        dim = self.output_dim
        places = self._hashes(rows, _HASHES, self.rows)
        vectors = self._read(self.table, places)
        places = self._hashes(rows, _HASHES, self.rows * dim, first=_HASHES)
        weights = ops.take(ops.reshape(self.table, (-1,)), places)
        scale = math.sqrt(_HASHES * dim)
        return scale * ops.mean(vectors * weights[..., None], axis=1)
