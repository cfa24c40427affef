"""Rows of their own for frequent features, shared ones for all others."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_pep.lab.baselines.compressed import CompressedEmbedding
from keras_pep.lab.baselines.mixed_dimension import BudgetTooSmallError
from keras_pep.layers import variables

SHARED_BY = 16


@keras.saving.register_keras_serializable(package="keras_pep")
class HotRowsEmbedding(CompressedEmbedding):
    """A row for each frequent feature, one for every 16 of the others.

    The shared row of cold features of a field is trained, and ends as a mean of
    what each would be. Cold features are put together by how often they
    occur. Where each is looked up is not counted: features numbered by
    frequency within a field need no pointers.

    Args:
        *args: Those of `CompressedEmbedding`.
        counts: How often each feature occurs; not needed by a layer whose
            weights are loaded.
        field_sizes: Number of features of each field.
        **kwargs: Those of `CompressedEmbedding`.

    Raises:
        BudgetTooSmallError: If not even shared rows fit.
    """

    def __init__(
        self,
        *args: Any,
        counts: np.ndarray | None = None,
        field_sizes: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.counts = counts
        self.field_sizes = tuple(field_sizes or (self.input_dim,))

    def build(self, input_shape: Any = None) -> None:
        """Creates the table, and where the row of each feature is."""
        total = self._rows_of(self.output_dim)
        self.table = self._weight("table", (total, self.output_dim))
        self.places = self.add_weight(
            name="places",
            shape=(self.input_dim,),
            initializer="zeros",
            dtype="int32",
            trainable=False,
        )
        if self.counts is not None:
            variables.assign(self.places, self._places(self.counts, total))
        self.built = True

    def _places(self, counts: np.ndarray, total: int) -> np.ndarray:
        """Where the row of each feature is: hot ones first."""
        field = np.repeat(np.arange(len(self.field_sizes)), self.field_sizes)
        order = np.lexsort((np.arange(counts.size), -counts))
        # As many as if the last row of each field were shared by all of 16.
        hot = (SHARED_BY * total - self.input_dim) // (SHARED_BY - 1)
        hot = min(hot, self.input_dim)
        while hot >= 0 and hot + shared_rows(field[order[hot:]]) > total:
            hot -= 1
        if hot < 0:
            raise BudgetTooSmallError(self.parameters)
        places = np.empty(counts.size, np.int32)
        places[order[:hot]] = np.arange(hot)
        cold, first = order[hot:], hot
        for number in range(len(self.field_sizes)):
            own = cold[field[cold] == number]
            places[own] = first + np.arange(own.size) // SHARED_BY
            first += -(-own.size // SHARED_BY)
        return places

    def _pointer_bytes(self, pointers: Any) -> int:
        return 0

    def _vectors(self, rows: Any) -> Any:
        return self._read(self.table, variables.take(self.places, rows))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, without counts."""
        return {**super().get_config(), "field_sizes": list(self.field_sizes)}


def width_of(features: int, columns: int, parameters: int) -> int:
    """Choose the width of rows: half of them, or more, are those of hot ones.

    Args:
        features: How many there are.
        columns: The largest width.
        parameters: How many there may be.
    """
    while columns > 1 and parameters * SHARED_BY < 2 * columns * features:
        columns //= 2
    return columns


def shared_rows(fields: np.ndarray) -> int:
    """Count the rows that cold features of these fields share."""
    sizes = np.unique(fields, return_counts=True)[1]
    return int((-(-sizes // SHARED_BY)).sum())
