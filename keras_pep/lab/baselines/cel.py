"""Clusters of features that share a vector, split where gradients differ."""

import heapq
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_pep.lab.baselines.compressed import CompressedEmbedding
from keras_pep.lab.baselines.k_means import nearest_of
from keras_pep.lab.baselines.mixed_dimension import BudgetTooSmallError
from keras_pep.lab.baselines.splitting import Splitting
from keras_pep.layers import variables


@keras.saving.register_keras_serializable(package="keras_pep")
class CELEmbedding(CompressedEmbedding):
    """Clustered embedding learning (CEL): a vector for each cluster.

    ```
    vector = table[cluster(id)]
    ```

    Each field begins as one cluster. After each of the first epochs, features
    move to another cluster of their field if that lowers their loss; then
    clusters are split by gradient principal component analysis (GPCA), until
    after the last of these epochs there are as many as allowed.

    Args:
        *args: Those of `CompressedEmbedding`.
        field_sizes: Number of features of each field.
        **kwargs: Those of `CompressedEmbedding`.

    Raises:
        BudgetTooSmallError: If not every field can have a vector.

    Reference:
        - [Chen et al., 2023](https://arxiv.org/abs/2302.01478)
    """

    pointer_bytes = 2

    def __init__(
        self,
        *args: Any,
        field_sizes: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.field_sizes = tuple(field_sizes or (self.input_dim,))
        numbers = np.arange(len(self.field_sizes), dtype=np.int32)
        self.fields = np.repeat(numbers, self.field_sizes)

    def build(self, input_shape: Any = None) -> None:
        """Creates the table, and the cluster of each feature."""
        self.rows = min(self._rows_of(self.output_dim), self.input_dim)
        if self.rows < len(self.field_sizes):
            raise BudgetTooSmallError(self.parameters)
        self.table = self._weight("table", (self.rows, self.output_dim))
        self.clusters = self.add_weight(
            name="clusters",
            shape=(self.input_dim,),
            initializer="zeros",
            dtype="int32",
            trainable=False,
        )
        variables.assign(self.clusters, self.fields)
        self.built = True

    def _vectors(self, rows: Any) -> Any:
        return self._read(self.table, variables.take(self.clusters, rows))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "field_sizes": list(self.field_sizes)}

    def callbacks(self, rows: Any = None) -> list[keras.callbacks.Callback]:
        """A callback that splits clusters after the first epochs."""
        return [Splitting(self.name, rows)]

    def split(self, gradients: np.ndarray, count: int) -> None:
        """Split clusters until there are so many.

        The next is the one whose gradients spread the most along their first
        principal component; it is split at their mean. Both parts begin with
        its vector.

        Args:
            gradients: Of the loss by the vector of each feature, if each had
                its own: `(features, output_dim)`.
            count: How many clusters there may be.
        """
        table = variables.values_of(self.table)
        clusters = variables.values_of(self.clusters)
        queue: list[tuple[float, int, np.ndarray, np.ndarray]] = []

        def add(number: int, members: np.ndarray) -> None:
            spread, apart = _halves(gradients[members].astype(np.float64))
            if apart.any():
                heapq.heappush(queue, (-spread, number, members, apart))

        used = 1 + int(clusters.max())
        for number in range(used):
            if (members := np.flatnonzero(clusters == number)).size:
                add(number, members)
        while queue and used < count:
            _, number, members, apart = heapq.heappop(queue)
            table[used], clusters[members[apart]] = table[number], used
            add(number, members[~apart])
            add(used, members[apart])
            used += 1
        variables.assign(self.table, table)
        variables.assign(self.clusters, clusters)

    def proposed(self, gradients: np.ndarray) -> np.ndarray:
        """Find the cluster of its field that each feature may do better in.

        It is the nearest to where the feature would descend to, in a step as
        long as the vectors of two clusters are apart on average.
        """
        table = variables.values_of(self.table)
        found = variables.values_of(self.clusters)
        for number in range(len(self.field_sizes)):
            own = self.fields == number
            clusters, slopes = np.unique(found[own]), gradients[own]
            length = np.sqrt(2 * table[clusters].var(axis=0).sum())
            norms = np.linalg.norm(slopes, axis=1, keepdims=True)
            steps = length * slopes / np.maximum(norms, 1e-30)
            there = nearest_of(table[found[own]] - steps, table[clusters])
            found[own] = clusters[there]
        return found


def _halves(gradients: np.ndarray) -> tuple[float, np.ndarray]:
    """Split gradients at their mean along their first principal component.

    Returns:
        Their sum of squares along it, and which are apart from the first.
    """
    centered = gradients - gradients.mean(axis=0)
    spreads, axes = np.linalg.eigh(centered.T @ centered)
    above = centered @ axes[:, -1] > 0
    return float(spreads[-1]), above != above[0]
