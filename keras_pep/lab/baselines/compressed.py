"""Base of the tables with fewer parameters than entries, and their hashes."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pep.lab.baselines.mixed_dimension import BudgetTooSmallError
from keras_pep.lab.baselines.stored import bytes_in, rounded
from keras_pep.layers import variables
from keras_pep.layers.embedding import TableMixin, positive_integer
from keras_pep.layers.lookup import distinct, take


class CompressedEmbedding(TableMixin, keras.layers.Layer):
    """Base class of tables whose rows are made from a few parameters.

    They plug in where a `PEPEmbedding` does. When built, a layer is the largest
    that trains no more parameters than allowed; `count_params` counts them,
    and the pointers of a layer that stores some.

    Args:
        input_dim: Integer. Number of features.
        output_dim: Integer. Size of the vectors.
        parameters: Integer. The most parameters that the layer may train.
        seed: Integer. Seed of its hash functions and pointers.
        scale: Float. Initial vectors are uniform within about
            `scale * output_dim ** -0.5`.
        **kwargs: `mask_zero`, `combiner`, `name`, `dtype` and other arguments
            of a Keras layer.

    Input shape:
        Integer tensor of any shape `(...)`, values in `[0, input_dim)`.

    Output shape:
        `(..., output_dim)`.

    Raises:
        BudgetTooSmallError: If the smallest layer has more parameters.
    """

    pointer_bytes = 0  # for each feature, at most 65,536 rows pointed to

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        parameters: int,
        seed: int = 0,
        scale: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(input_dim, output_dim, **kwargs)
        self.parameters = positive_integer("parameters", parameters)
        self.seed = seed
        self.scale = scale

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "parameters": self.parameters,
            "seed": self.seed,
            "scale": self.scale,
        }

    def stored_bytes(self, bits: int | None = None) -> int:
        """Count the bytes of its weights, and of its pointers.

        Args:
            bits: 8 or 4 of `rounded`, or None for float32.
        """
        found = sum(self._pointer_bytes(w) for w in self.non_trainable_weights)
        for weight in self.trainable_weights:
            size: int = math.prod(weight.shape)
            rows = size // math.prod(self._row_shape(weight))
            found += bytes_in(size, rows, bits)
        return found

    def round_to(self, bits: int) -> None:
        """Round its weights to integers of 8 or 4 bits."""
        for weight in self.trainable_weights:
            values = variables.values_of(weight)
            width = math.prod(self._row_shape(weight))
            rows = rounded(values.reshape(-1, width), bits)
            variables.assign(weight, rows.reshape(values.shape))

    def _row_shape(self, weight: Any) -> tuple[int, ...]:
        """Shape of what shares a scale of 4-bit integers."""
        shape = tuple(weight.shape)  # of TensorFlow, which is never false
        return shape[1:] or shape

    def _pointer_bytes(self, pointers: Any) -> int:
        """Bytes of row numbers, in the smallest type that holds them."""
        largest = variables.values_of(pointers).max(initial=0)
        size: int = math.prod(pointers.shape)
        return np.min_scalar_type(largest).itemsize * size

    def callbacks(self, rows: Any = None) -> list[keras.callbacks.Callback]:
        """Callbacks that a training of this layer needs.

        Args:
            rows: The `keras_pep.data.Split` that it is trained on.
        """
        return []

    def _weight(
        self, name: str, shape: tuple[int, ...], limit: float | None = None
    ) -> Any:
        """Create a weight, by default uniform as vectors should be."""
        if limit is None:
            limit = self.scale * self.output_dim**-0.5
        draw = keras.initializers.RandomUniform(-limit, limit)
        return self.add_weight(
            name=name, shape=shape, initializer=draw, autocast=False
        )

    def _read(self, weight: Any, places: Any) -> Any:
        """Read rows of a weight, each once, as its gradient requires."""
        read, spread = distinct(places)
        return spread(take(weight, read))

    def _rows_of(self, width: int) -> int:
        """How many rows of a width there may be."""
        if width > self.parameters:
            raise BudgetTooSmallError(self.parameters)
        return self.parameters // width

    def _largest(self, parameters_of: Callable[[int], int]) -> int:
        """The largest number for which a growing count fits."""
        found = 0
        while parameters_of(found + 1) <= self.parameters:
            found += 1
        if not found:
            raise BudgetTooSmallError(self.parameters)
        return found

    def _hashes(self, rows: Any, count: int, below: int, first: int = 0) -> Any:
        """Hash row numbers `(rows,)` by `count` functions, `(rows, count)`.

        The high bits of `a * row + b` modulo `2**32`, which spread consecutive
        numbers evenly (Dietzfelbinger et al., 1997).

        Args:
            rows: Row numbers.
            count: How many functions.
            below: Hashes are below it; at most `2**31 - 1`.
            first: Number of the first: others are independent of it.

        Returns:
            int32.
        """
        random = np.random.default_rng([self.seed, first])
        drawn = random.integers(2**32, size=(2, count), dtype=np.uint32)
        factors, terms = drawn.view(np.int32)
        words = ops.cast(rows, "int32")[:, None] * (factors | 1) + terms
        # Low bits are worse, and repeat in all functions at once.
        bits = min(below.bit_length() + 8, 31)
        words = ops.right_shift(words, 32 - bits)
        return ops.bitwise_and(words, 2**bits - 1) % below


def chunk_width(output_dim: int, chunks: int) -> int:
    """Width of each of so many parts of a vector; the last is cut."""
    return math.ceil(output_dim / chunks)


def glorot(features: int, output_dim: int) -> float:
    """The scale with which vectors begin as those of a full table do."""
    return math.sqrt(6 * output_dim / (features + output_dim))
