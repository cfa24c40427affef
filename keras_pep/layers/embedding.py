"""What the embedding layers share: ids in, rows of a table out."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pep.layers.ids import Bounds, IdsMixin, dense, is_ragged
from keras_pep.layers.lookup import look_up


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
        **kwargs: `name`, `dtype` and other arguments of a Keras layer.
    """

    built: bool

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        mask_zero: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.input_dim = positive_integer("input_dim", input_dim)
        self.output_dim = positive_integer("output_dim", output_dim)
        self.mask_zero = mask_zero
        self.supports_masking = mask_zero
        self.autocast = False  # ids stay integers

    def call(self, inputs: Any) -> Any:
        """Looks ids up."""
        if is_ragged(inputs):
            return inputs.with_flat_values(self.call(inputs.flat_values))
        vectors = look_up(
            inputs,
            Bounds.of_table(self.name, self.input_dim),
            self._vectors,
            self._merge,
            self._kernels_check,
        )
        return ops.cast(vectors, self.compute_dtype)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """`inputs != 0` if `mask_zero`, else None."""
        if not self.mask_zero:
            return None
        if is_ragged(inputs):
            return inputs.with_flat_values(
                self.compute_mask(inputs.flat_values)
            )
        return ops.not_equal(dense(inputs), 0)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """`(*input_shape, output_dim)`."""
        return (*input_shape, self.output_dim)

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        """Shape and dtype of the output, without computing it."""
        return keras.KerasTensor(
            self.compute_output_shape(inputs.shape),
            dtype=self.compute_dtype,
            ragged=getattr(inputs, "ragged", False),
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "mask_zero": self.mask_zero,
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
