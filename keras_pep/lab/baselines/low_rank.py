"""A narrow table and a projection."""

from typing import Any

import keras
from keras import ops

from keras_pep.lab.baselines.compressed import CompressedEmbedding


@keras.saving.register_keras_serializable(package="keras_pep")
class LowRankEmbedding(CompressedEmbedding):
    """A narrow table, projected to the width of the vectors.

    ```
    vector = table[id] @ projection + bias
    ```

    Args:
        *args: Those of `CompressedEmbedding`.
        **kwargs: The same.

    Reference:
        - [Lan et al., 2020](https://arxiv.org/abs/1909.11942), section 3.1
    """

    def build(self, input_shape: Any = None) -> None:
        """Creates the table, as wide as fits, and the projection."""
        features, dim = self.input_dim, self.output_dim
        rank = self._largest(lambda r: (features + dim) * r + dim)
        self.table = self._weight("table", (features, rank), rank**-0.5)
        limit = self.scale * (rank / dim) ** 0.5
        self.projection = self._weight("projection", (rank, dim), limit)
        self.bias = self._weight("bias", (dim,), self.scale * rank**-0.5)
        self.built = True

    def _vectors(self, rows: Any) -> Any:
        narrow = self._read(self.table, rows)
        return ops.matmul(narrow, self.projection) + self.bias
