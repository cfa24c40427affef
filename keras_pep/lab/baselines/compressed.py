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

_MIX = (0x85EBCA6B, 0xC2B2AE35)  # of Murmur3's finalizer
_LARGEST = 2**31 - 1


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

    def _hashes(self, rows: Any, count: int, first: int = 0) -> Any:
        """Hash row numbers `(rows,)` by `count` functions, `(rows, count)`.

        Args:
            rows: Row numbers.
            count: How many functions.
            first: Number of the first: others are independent of it.

        Returns:
            int32 in `[0, 2**31)`.
        """
        keys = np.arange(first, first + count, dtype=np.uint64)
        keys = (keys + 1) * 0x9E3779B9 + self.seed * 0x7FEB352D
        words = (keys & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
        mixed = ops.cast(rows, "int32")[:, None]
        mixed = ops.bitwise_xor(_mixed(mixed), words[None])
        return ops.bitwise_and(_mixed(mixed), _LARGEST)


def _mixed(words: Any) -> Any:
    """Mix the bits of int32, whose products wrap: Murmur3's finalizer."""
    for shift, factor in zip((16, 13), _MIX, strict=True):
        words = ops.bitwise_xor(words, _shifted(words, shift))
        words = words * (factor - 2**32)
    return ops.bitwise_xor(words, _shifted(words, 16))


def _shifted(words: Any, bits: int) -> Any:
    """Shift right, zeros from the left."""
    mask = 2 ** (32 - bits) - 1
    return ops.bitwise_and(ops.right_shift(words, bits), mask)


def chunk_width(output_dim: int, chunks: int) -> int:
    """Width of each of so many parts of a vector; the last is cut."""
    return math.ceil(output_dim / chunks)


def glorot(features: int, output_dim: int) -> float:
    """The scale with which vectors begin as those of a full table do."""
    return math.sqrt(6 * output_dim / (features + output_dim))
