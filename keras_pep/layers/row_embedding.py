"""A full embedding table of which a batch reads its rows alone."""

from typing import Any

import keras
from keras import ops

from keras_pep.layers.ids import Bounds
from keras_pep.layers.initial import by_blocks
from keras_pep.layers.lookup import look_up, take


@keras.saving.register_keras_serializable(package="keras_pep")
class RowEmbedding(keras.layers.Embedding):
    """A `keras.layers.Embedding` that reads only the looked-up rows, each once.

    On TensorFlow Keras' own reads the whole table in every step. Arguments,
    input and output are the same, but for ids outside the table, which are an
    error or whose vector is NaN, as with `PEPEmbedding`.

    Example:

    ```python
    layer = keras_pep.layers.RowEmbedding(10_000, 64)
    layer(np.array([[1, 2, 3]]))  # (1, 3, 64)
    ```
    """

    def add_weight(self, shape: Any, initializer: Any, **kwargs: Any) -> Any:
        """Create the table, in memory like that of a `PEPEmbedding`."""
        return super().add_weight(
            shape, by_blocks(initializer, shape), **kwargs
        )

    def call(self, inputs: Any) -> Any:
        """Look ids up."""
        bounds = Bounds.of_table(self.name, self.input_dim)
        vectors = look_up(
            inputs, bounds, lambda rows: take(self.embeddings, rows)
        )
        return ops.cast(vectors, self.compute_dtype)
