"""Tables that features share by hashes: one hash, or one for each part."""

from typing import Any

import keras
from keras import ops

from keras_pep.lab.baselines.compressed import (
    CompressedEmbedding,
    chunk_width,
)


@keras.saving.register_keras_serializable(package="keras_pep")
class HashingEmbedding(CompressedEmbedding):
    """A small table whose rows features share by a hash.

    ```
    vector = table[hash(id)]
    ```

    Args:
        *args: Those of `CompressedEmbedding`.
        **kwargs: The same.

    Reference:
        - [Weinberger et al., 2009](https://arxiv.org/abs/0902.2206)
    """

    chunks = 1

    def build(self, input_shape: Any = None) -> None:
        """Creates the table, one for each part of a vector."""
        width = chunk_width(self.output_dim, self.chunks)
        self.rows = self._rows_of(self.chunks * width)
        self.table = self._weight("table", (self.chunks * self.rows, width))
        self.built = True

    def _vectors(self, rows: Any) -> Any:
        places = self._hashes(rows, self.chunks, self.rows)
        places += self.rows * ops.arange(self.chunks, dtype="int32")
        width = self.chunks * self.table.shape[1]
        parts = ops.reshape(self._read(self.table, places), (-1, width))
        return parts[:, : self.output_dim]


@keras.saving.register_keras_serializable(package="keras_pep")
class CompositionalEmbedding(HashingEmbedding):
    """Four small tables by a hash each, a quarter of the vector in each.

    ```
    vector = concatenate(table_c[hash_c(id)] for c in range(4))
    ```

    Args:
        *args: Those of `CompressedEmbedding`.
        **kwargs: The same.

    Reference:
        - [Shi et al., 2020](https://arxiv.org/abs/1909.02107), by
          concatenation
    """

    chunks = 4
