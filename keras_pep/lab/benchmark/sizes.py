"""Bytes of a pruned table, in memory and in a file."""

import tempfile
from pathlib import Path

import keras
import numpy as np

from keras_pep.lab.run.model_file import stored_bytes
from keras_pep.lab.text import markdown
from keras_pep.layers import PrunedEmbedding
from keras_pep.serving.sizes import bytes_of

_SPARSITIES = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99)


def size_table(rows: int = 100_000, dim: int = 64) -> str:
    """Save tables of falling density, and read what the files hold.

    Args:
        rows: Features of the table.
        dim: Columns of the table.

    Returns:
        A table.
    """
    random = np.random.default_rng(0)
    table = random.normal(size=(rows, dim)).astype(np.float32)
    places = random.random(table.shape)
    dense = keras.layers.Embedding(rows, dim)
    full = _stored(dense)
    titles = "table", "kept", "bytes in memory", "bytes in the file"
    lines = [("keras.layers.Embedding", table.size, table.nbytes, full)]
    for sparsity in _SPARSITIES:
        layer = PrunedEmbedding.from_dense(table, places > sparsity)
        size = _stored(layer)
        name = f"PrunedEmbedding, {sparsity:.0%} pruned"
        lines.append((name, layer.num_values, bytes_of(layer.weights), size))
    return markdown(
        [*titles, "smaller by"],
        [
            [name, *(f"{n:,}" for n in sizes), f"{full / sizes[-1]:.1f} x"]
            for name, *sizes in lines
        ],
    )


def _stored(layer: keras.layers.Layer) -> int:
    model = keras.Sequential([keras.Input((1,), dtype="int32"), layer])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        model.save(path)
        return stored_bytes(path)
