"""One array that the parts of all vectors lie in."""

from typing import Any

import keras
from keras import ops

from keras_pep.lab.baselines.compressed import (
    CompressedEmbedding,
    chunk_width,
)

_CHUNKS = 4


@keras.saving.register_keras_serializable(package="keras_pep")
class RobeEmbedding(CompressedEmbedding):
    """Random offset block embedding: parts of vectors overlap in one array.

    ```
    vector = concatenate(array[hash_c(id) + arange(width)] for c in range(4))
    ```

    where the end of the array is followed by its beginning.

    Args:
        *args: Those of `CompressedEmbedding`.
        **kwargs: The same.

    Reference:
        - [Desai et al., 2022](https://arxiv.org/abs/2108.02191)
    """

    def build(self, input_shape: Any = None) -> None:
        """Creates the array."""
        self.array = self._weight("array", (self.parameters,))
        self.built = True

    def _vectors(self, rows: Any) -> Any:
        width = chunk_width(self.output_dim, _CHUNKS)
        offsets = self._hashes(rows, _CHUNKS, self.parameters)
        places = offsets[..., None] + ops.arange(width, dtype="int32")
        places = ops.reshape(places, (-1, _CHUNKS * width))
        places = places[:, : self.output_dim] % self.parameters
        return self._read(self.array, places)
