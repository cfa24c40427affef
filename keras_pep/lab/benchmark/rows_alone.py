"""PEPEmbedding without thresholds, to see what they cost."""

from typing import Any

import keras

from keras_pep.layers import lookup
from keras_pep.layers.embedding import TableMixin
from keras_pep.layers.initial import by_blocks


class RowsAlone(TableMixin, keras.layers.Layer):
    """A table of which only the looked-up rows are read, each once.

    `keras.layers.Embedding` on TensorFlow reads the whole table in every step,
    which would flatter whatever is compared with it.
    """

    def build(self, input_shape: Any = None) -> None:
        """Creates `embeddings`, in memory like that of a `PEPEmbedding`."""
        if not self.built:
            shape = self.input_dim, self.output_dim
            self.embeddings = self.add_weight(
                name="embeddings",
                shape=shape,
                initializer=by_blocks(
                    keras.initializers.RandomUniform(), shape
                ),
                autocast=False,
            )
            self.built = True

    def _vectors(self, rows: Any) -> Any:
        return lookup.take(self.embeddings, rows)
