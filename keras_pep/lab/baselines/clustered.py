"""Codebooks that are clustered while the model is trained."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pep.lab.baselines.compressed import (
    CompressedEmbedding,
    chunk_width,
)
from keras_pep.lab.baselines.k_means import k_means, nearest_of
from keras_pep.layers import variables

_CHUNKS = 4
_CLUSTERINGS = 7  # after the first epochs


@keras.saving.register_keras_serializable(package="keras_pep")
class ClusteredEmbedding(CompressedEmbedding):
    """Clustered compositional embedding (CCE): codebooks and pointers to them.

    ```
    vector = concatenate(
        centroids_c[pointer_c(id)] + helpers_c[hash_c(id)] for c in range(4)
    )
    ```

    Pointers begin at random. After each of the first epochs, vectors of
    features are clustered: each feature points to its centroid, and helpers
    begin with what that leaves, shared at random anew. Pointers are no
    parameters, but they are stored: two numbers for each feature and part.

    Args:
        *args: Those of `CompressedEmbedding`.
        **kwargs: The same.

    Reference:
        - [Tsang & Ahle, 2023](https://arxiv.org/abs/2310.08670)
    """

    pointer_bytes = 2 * 2 * _CHUNKS

    def build(self, input_shape: Any = None) -> None:
        """Creates codebooks and pointers."""
        width = chunk_width(self.output_dim, _CHUNKS)
        self.rows = self._rows_of(2 * _CHUNKS * width)  # in each codebook
        shape = (_CHUNKS * self.rows, width)
        self.centroids = self._weight("centroids", shape)
        self.helpers = self._weight("helpers", shape)
        self.pointers = [
            self.add_weight(
                name=f"pointers_{n}",
                shape=(self.input_dim, _CHUNKS),
                initializer="zeros",
                dtype="int32",
                trainable=False,
            )
            for n in range(2)
        ]
        random = np.random.default_rng(self.seed)
        for pointers in self.pointers:
            variables.assign(pointers, self._drawn(random))
        self.built = True

    def _drawn(self, random: np.random.Generator) -> np.ndarray:
        """Draw a row of each codebook for every feature."""
        drawn = random.integers(self.rows, size=(self.input_dim, _CHUNKS))
        first = self.rows * np.arange(_CHUNKS)
        return (drawn + first).astype(np.int32)

    def _vectors(self, rows: Any) -> Any:
        parts = [
            self._read(book, variables.take(pointers, rows))
            for book, pointers in zip(
                (self.centroids, self.helpers), self.pointers, strict=True
            )
        ]
        width = _CHUNKS * self.centroids.shape[1]
        vectors = ops.reshape(parts[0] + parts[1], (-1, width))
        return vectors[:, : self.output_dim]

    def callbacks(self, rows: Any = None) -> list[keras.callbacks.Callback]:
        """A callback that clusters it after the first epochs."""
        return [_Clustering(self.name)]

    def cluster(self, number: int = 1) -> None:
        """Cluster the vectors of all features, and point to the clusters.

        Args:
            number: Which time it is, on which what is drawn depends.
        """
        random = np.random.default_rng([self.seed, number])
        books = [variables.values_of(w) for w in (self.centroids, self.helpers)]
        near, shared = (variables.values_of(p) for p in self.pointers)
        drawn = self._drawn(random)
        for chunk in range(_CHUNKS):
            parts = books[0][near[:, chunk]] + books[1][shared[:, chunk]]
            centroids = k_means(parts, self.rows, random)
            nearest = nearest_of(parts, centroids)
            own = slice(chunk * self.rows, (chunk + 1) * self.rows)
            books[0][own], near[:, chunk] = centroids, nearest + own.start
            places = drawn[:, chunk] - own.start
            sums = np.zeros_like(centroids)
            np.add.at(sums, places, parts - centroids[nearest])
            counts = np.bincount(places, minlength=self.rows)
            books[1][own] = sums / np.maximum(counts, 1)[:, None]
        found = (*books, near, drawn)
        weights = (self.centroids, self.helpers, *self.pointers)
        for weight, values in zip(weights, found, strict=True):
            variables.assign(weight, values)


class _Clustering(keras.callbacks.Callback):
    """Clusters the layer of a name after each of the first epochs."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Clusters it, but before the first."""
        if 0 < epoch <= _CLUSTERINGS:
            self.model.get_layer(self.name).cluster(epoch)
