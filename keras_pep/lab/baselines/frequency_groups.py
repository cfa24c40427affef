"""Groups of features that occur about as often, and sizes of their rows."""

from collections.abc import Sequence

import numpy as np

_INNER = 16  # functions of frequency and size


class Groups:
    """Features of a field that occur about as often: within a power of two.

    Args:
        counts: How often each feature occurs.
        field_sizes: Number of features of each field.
        columns: Of each table that has a row for each feature.

    Attributes:
        group: Group of each row of the tables, one after the other.
        features: How many are in each group.
    """

    def __init__(
        self,
        counts: np.ndarray,
        field_sizes: Sequence[int],
        columns: Sequence[int],
    ) -> None:
        fields, tables = len(field_sizes), len(columns)
        field = np.repeat(np.arange(fields * tables), [*field_sizes] * tables)
        self._limits = np.repeat(columns, counts.size)
        self._counts = np.tile(counts, tables)
        level = np.log2(1 + self._counts).astype(int)
        keys, first, self.group, self.features = np.unique(
            64 * field + level,
            return_index=True,
            return_inverse=True,
            return_counts=True,
        )
        self._field, self._level = np.divmod(keys, 64)
        self._limit = self._limits[first]

    def drawn(self, random: np.random.Generator) -> np.ndarray:
        """Draw weights of groups: of a field by a power of frequency."""
        fields = self._field.max() + 1
        powers = random.uniform(size=fields)[self._field]
        scales = random.normal(size=fields)[self._field]
        return np.asarray(np.exp(scales) * 2.0 ** (powers * self._level))

    def means(self, weights: np.ndarray, budget: int) -> np.ndarray:
        """Mean sizes in proportion to weights, but for the columns there are.

        Together they take the whole budget.
        """
        low, high = 0.0, float(self._limit.max() / weights.min())
        for _ in range(100):
            middle = (low + high) / 2
            found = np.minimum(middle * weights, self._limit)
            if self.features @ found <= budget:
                low = middle
            else:
                high = middle
        return np.asarray(np.minimum(low * weights, self._limit))

    def sizes(self, means: np.ndarray, budget: int) -> np.ndarray:
        """Sizes of rows: means, rounded so that they add up to the budget.

        Up where most is missing; within a group for the most frequent.
        """
        whole = np.floor(means).astype(np.int64)
        sizes: np.ndarray = whole[self.group]
        missing = (means - whole)[self.group]
        order = np.lexsort((-self._counts, self.group, -missing))
        order = order[sizes[order] < self._limits[order]]
        sizes[order[: budget - sizes.sum()]] += 1
        return sizes

    def described(self, means: np.ndarray) -> np.ndarray:
        """Describe a set of sizes, as an input of the predictor.

        It is a sum over the features of each field, as of DeepSets, of
        functions of frequency and size, which are random and stay so.
        """
        shares = means / self._limit
        level = self._level / max(1, self._level.max())
        inputs = np.stack([np.ones_like(level), level, shares], axis=1)
        inner = np.random.default_rng(0).normal(0, 2, (3, _INNER))
        each = np.tanh(inputs @ inner) * self.features[:, None]
        found = np.zeros((self._field.max() + 1, _INNER))
        np.add.at(found, self._field, each)
        return np.asarray(found.ravel() / self.features.sum())
