"""What the embedding layers share: ids in, rows of a table out."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pep.layers import lookup
from keras_pep.runtime import LayerMixin


class TableMixin(LayerMixin):
    """What layers are that look rows up in a table of theirs.

    A subclass computes the vectors of given rows in `_vectors`.

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
        rows, spread = lookup.distinct(lookup.as_ids(inputs), self._merge)
        return ops.cast(spread(self._vectors(rows)), self.compute_dtype)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """`inputs != 0` if `mask_zero`, else None."""
        return ops.not_equal(inputs, 0) if self.mask_zero else None

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """`(*input_shape, output_dim)`."""
        return (*input_shape, self.output_dim)

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        """Shape and dtype of the output, without computing it."""
        return keras.KerasTensor(
            self.compute_output_shape(inputs.shape), dtype=self.compute_dtype
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
