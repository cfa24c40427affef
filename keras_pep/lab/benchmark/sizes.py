"""Bytes of a pruned table, in memory and in a file."""

import tempfile
from pathlib import Path

import keras
import numpy as np

from keras_pep.lab.run.model_file import stored_bytes
from keras_pep.layers import PrunedEmbedding

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
    lines = [
        "| table | kept | bytes in memory | bytes in the file | smaller by |",
        "|---|---:|---:|---:|---:|",
        f"| keras.layers.Embedding | {table.size:,} | {table.nbytes:,} | "
        f"{full:,} | 1.0 x |",
    ]
    for sparsity in _SPARSITIES:
        layer = PrunedEmbedding.from_dense(table, places > sparsity)
        size = _stored(layer)
        memory = sum(
            int(np.prod(v.shape)) * np.dtype(v.dtype).itemsize
            for v in layer.weights
        )
        lines.append(
            f"| PrunedEmbedding, {sparsity:.0%} pruned | "
            f"{layer.num_values:,} | {memory:,} | {size:,} | "
            f"{full / size:.1f} x |"
        )
    return "\n".join(lines)


def _stored(layer: keras.layers.Layer) -> int:
    model = keras.Sequential([keras.Input((1,), dtype="int32"), layer])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        model.save(path)
        return stored_bytes(path)
