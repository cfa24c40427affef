"""Base of the embedding layers: ids in, rows of a table out."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pep.layers.ids import Bounds, IdsMixin, dense, is_ragged
from keras_pep.layers.lookup import look_up

COMBINERS = ("mean", "sum", "sqrtn")


class TableMixin(IdsMixin):
    """Base of layers that look rows up in a table of their own.

    A subclass computes the vectors of given rows in `_vectors`. Ids may be
    ragged, and so are the vectors then, or sparse, where an id that is not
    there is 0. An id outside the table is an error, or its vector is NaN; see
    `keras_pep.layers.ids`.

    Args:
        input_dim: Integer. Number of features, the rows of the table.
        output_dim: Integer. Base embedding size, the columns of the table.
        mask_zero: Boolean, whether id 0 is padding to be masked out.
        combiner: None, or how the vectors of a list of ids become one.
        **kwargs: `name`, `dtype` and other arguments of a Keras layer.
    """

    built: bool

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        mask_zero: bool = False,
        combiner: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if combiner not in (None, *COMBINERS):
            raise ValueError(
                f"`combiner` must be None or one of {COMBINERS}. "
                f"Received: combiner={combiner!r}"
            )
        self.combiner = combiner
        self.input_dim = positive_integer("input_dim", input_dim)
        self.output_dim = positive_integer("output_dim", output_dim)
        self.mask_zero = mask_zero
        self.supports_masking = mask_zero
        self.autocast = False  # ids stay integers

    def call(self, inputs: Any, weights: Any = None) -> Any:
        """Look ids up, and combine the vectors of each list."""
        vectors = self._looked_up(inputs)
        if self.combiner is not None:
            return self._combined(vectors, inputs, weights)
        if weights is None:
            return vectors
        raise ValueError(
            f"{self.name!r} was called with weights, but has no `combiner` to "
            f"use them. Expected: combiner= one of {COMBINERS}. Found: None."
        )

    def _combined(self, vectors: Any, inputs: Any, weights: Any) -> Any:
        """Combine the vectors of the last axis of ids, as `EmbedReduce`."""
        alone = len(inputs.shape) < 2  # an id, not a list of them
        if weights is None or (alone and self.combiner != "sum"):
            weights = _ones_like(inputs)
        weights = ops.cast(dense(weights), vectors.dtype)
        if self.mask_zero:
            there = self._is_id(inputs)
            weights = weights * ops.cast(there, vectors.dtype)
        vectors = vectors * ops.expand_dims(weights, -1)
        if alone:
            return vectors
        total = ops.sum(vectors, axis=-2)
        if self.combiner == "sum":
            return total
        if self.combiner == "mean":
            size = ops.sum(weights, axis=-1)
        else:
            size = ops.sqrt(ops.sum(weights * weights, axis=-1))
        return ops.divide_no_nan(total, ops.expand_dims(size, -1))

    def _looked_up(self, inputs: Any) -> Any:
        if is_ragged(inputs):
            vectors = self._looked_up(inputs.flat_values)
            return inputs.with_flat_values(vectors)
        vectors = look_up(
            inputs,
            Bounds.of_table(self.name, self.input_dim),
            self._vectors,
            self._merge,
            self._kernels_check,
        )
        return ops.cast(vectors, self.compute_dtype)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """`inputs != 0` if `mask_zero` and there is no combiner, else None."""
        if not self.mask_zero or self.combiner is not None:
            return None
        return self._is_id(inputs)

    def _is_id(self, inputs: Any) -> Any:
        if is_ragged(inputs):
            return inputs.with_flat_values(self._is_id(inputs.flat_values))
        return ops.not_equal(dense(inputs), 0)

    def compute_output_shape(
        self, input_shape: Any, weights_shape: Any = None
    ) -> tuple[Any, ...]:
        """`(*input_shape, output_dim)`, without the last axis if combined."""
        combined = self.combiner is not None and len(input_shape) > 1
        return (*input_shape[: -1 if combined else None], self.output_dim)

    def compute_output_spec(
        self, inputs: Any, weights: Any = None
    ) -> keras.KerasTensor:
        """Shape and dtype of the output, without computing it."""
        ragged = getattr(inputs, "ragged", False) and self.combiner is None
        return keras.KerasTensor(
            self.compute_output_shape(inputs.shape),
            dtype=self.compute_dtype,
            ragged=ragged,
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "mask_zero": self.mask_zero,
            "combiner": self.combiner,
        }

    @property
    def _merge(self) -> bool:
        """Whether to read a row once that a batch looks up several times."""
        return True

    @property
    def _kernels_check(self) -> bool:
        """Whether TensorFlow's CPU refuses each wrong id that is read."""
        return True

    def _vectors(self, rows: Any) -> Any:
        """Vectors of row numbers `(rows,)`: `(rows, output_dim)`."""
        raise NotImplementedError


def _ones_like(ids: Any) -> Any:
    """Return 1 for each id, 0 where sparse ids have none."""
    if is_ragged(ids):
        return ids.with_flat_values(ops.ones_like(ids.flat_values))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if isinstance(ids, tf.SparseTensor):
            return ids.with_values(tf.ones_like(ids.values))
    if hasattr(ids, "indices_sorted"):  # of JAX, with a shape that is known
        return type(ids)(
            (ops.ones_like(ids.data), ids.indices), shape=ids.shape
        )
    return ops.ones_like(ids)


def positive_integer(name: str, value: Any) -> int:
    """The value, if it is a positive integer.

    Raises:
        ValueError: If it is not.
    """
    if (
        not isinstance(value, int | np.integer)
        or isinstance(value, bool)
        or value <= 0
    ):
        raise ValueError(
            f"`{name}` must be a positive integer. Received: {name}={value!r} "
            f"(of type {type(value).__name__})"
        )
    return int(value)


def lengths_of_fields(
    field_lengths: Sequence[int] | None, field_sizes: Sequence[int]
) -> tuple[int, ...]:
    """Return the number of columns of each field, by default 1.

    Raises:
        ValueError: If there is not one positive integer for each field.
    """
    found = tuple(
        positive_integer("field_lengths", length)
        for length in field_lengths or (1,) * len(field_sizes)
    )
    if len(found) != len(field_sizes):
        raise ValueError(
            "`field_lengths` must have one length for each of the "
            f"{len(field_sizes)} fields. Received: {field_lengths}"
        )
    return found
