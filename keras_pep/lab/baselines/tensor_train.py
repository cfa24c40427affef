"""A table as a product of small tensors."""

import math
from typing import Any

import keras
from keras import ops

from keras_pep.lab.baselines.compressed import CompressedEmbedding

_CORES = 4


@keras.saving.register_keras_serializable(package="keras_pep")
class TensorTrainEmbedding(CompressedEmbedding):
    """A table as a train of four small tensors.

    ```
    vector[j] = G_1[i_1, j_1] @ G_2[i_2, j_2] @ G_3[i_3, j_3] @ G_4[i_4, j_4]
    ```

    where `i` are the digits of the id, `j` those of the column, and `G` the
    matrices of the tensors; those of the first and last are vectors.

    Args:
        *args: Those of `CompressedEmbedding`.
        **kwargs: The same.

    Reference:
        - [Yin et al., 2021](https://arxiv.org/abs/2101.11714)
    """

    def build(self, input_shape: Any = None) -> None:
        """Creates the tensors, of the highest rank that fits."""
        self.base = _root(self.input_dim)  # of the digits of ids
        digits = _root(self.output_dim)  # how many each column digit has
        slices = self.base * digits
        rank = self._largest(lambda r: slices * (2 * r + (_CORES - 2) * r * r))
        # So that vectors begin as long as those of a full table.
        first, other = self.scale * digits**-0.5, (digits * rank) ** -0.5
        shape = (self.base, digits, rank)
        self.first = self._weight("first", shape, first)
        self.inner = [
            self._weight(f"inner_{n}", (*shape, rank), other)
            for n in range(_CORES - 2)
        ]
        self.last = self._weight("last", shape, other)
        self.built = True

    def _vectors(self, rows: Any) -> Any:
        digits = []
        for _ in range(_CORES):
            digits.append(rows % self.base)
            rows = ops.floor_divide(rows, self.base)
        found = self._read(
            self.first, digits[0]
        )  # (rows, columns so far, rank)
        rank = found.shape[2]
        for core, digit in zip(self.inner, digits[1:-1], strict=True):
            found = ops.einsum("ber,bdrs->beds", found, self._read(core, digit))
            found = ops.reshape(
                found, (-1, found.shape[1] * found.shape[2], rank)
            )
        last = self._read(self.last, digits[-1])
        found = ops.einsum("ber,bdr->bed", found, last)
        found = ops.reshape(found, (-1, found.shape[1] * found.shape[2]))
        return found[:, : self.output_dim]


def _root(number: int) -> int:
    """The least base in which so many numbers have a digit for each core."""
    base: int = max(1, math.floor(number ** (1 / _CORES)))
    return base if bool(base**_CORES >= number) else base + 1
